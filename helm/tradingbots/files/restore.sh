# Put the newest backup, or $RESTORE_FILE, in the place of what the database holds: all of it or nothing.
file=${RESTORE_FILE:-$(ls -1 "$folder" | grep -E '^kronos-[0-9TZ]+[.]dump$' | sort | tail -n 1 || true)}
if [ -z "$file" ] || [ ! -f "$folder/$file" ]; then
    echo "${file:-a backup} is not there; there are: $(ls -1 "$folder" | tr '\n' ' ')" >&2
    exit 2
fi
pg_restore --dbname="$address" --clean --if-exists --no-owner --no-privileges --single-transaction \
    "$folder/$file"
echo "restored $file"
