# Put the newest backup, or $RESTORE_FILE, in the place of what the database holds: all of it or nothing.
file=${RESTORE_FILE:-$(ls -1 "$folder" | grep -E '^kronos-[0-9TZ]+[.]dump$' | sort | tail -n 1 || true)}
if [ -z "$file" ] || [ ! -f "$folder/$file" ]; then
    echo "${file:-a backup} is not there; there are: $(ls -1 "$folder" | tr '\n' ' ')" >&2
    exit 2
fi
# One transaction, which a failure on either side of the pipe leaves without its COMMIT. pg_restore
# drops no partition of a ledger that `kronosbot partition` has made, so that goes first.
{
    echo 'BEGIN;'
    cat <<'SQL'
DO $$ BEGIN
  IF (SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('kronos_forecasts')) THEN
    DROP TABLE kronos_forecasts;
  END IF;
END $$;
SQL
    pg_restore --file=- --clean --if-exists --no-owner --no-privileges "$folder/$file"
    echo 'COMMIT;'
} | psql --dbname="$address" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --output=/dev/null
echo "restored $file"
