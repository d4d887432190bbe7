# Replace the contents of the database with the newest backup, or with $RESTORE_FILE, in one
# transaction.
file=${RESTORE_FILE:-$(ls -1 "$folder" | grep -E '^kronos-[0-9TZ]+[.]dump$' | sort | tail -n 1 || true)}
if [ -z "$file" ] || [ ! -f "$folder/$file" ]; then
    echo "${file:-a backup}: not found; available: $(ls -1 "$folder" | tr '\n' ' ')" >&2
    exit 2
fi
# If either side of the pipe fails, the COMMIT is never sent and the transaction rolls back.
# pg_restore does not drop the partitions that `kronosbot partition` created, so drop that table first.
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
