# Write a backup of the database, check that it is readable, and delete all but the newest $KEEP.
name=kronos-$(date -u +%Y%m%dT%H%M%SZ).dump
partial=$folder/.partial
trap 'rm -f "$partial"' EXIT
pg_dump --dbname="$address" --format=custom --no-owner --no-privileges --file="$partial"
contents=$(pg_restore --list "$partial")
sync "$partial"
mv "$partial" "$folder/$name"
(cd "$folder" && ls -1 | grep -E '^kronos-[0-9TZ]+[.]dump$' | sort -r | tail -n +$((KEEP + 1)) | xargs -r rm -f --)
echo "backed up to $name: $(stat -c %s "$folder/$name") bytes," \
    "$(echo "$contents" | grep -c 'TABLE DATA') tables;" \
    "kept: $(ls -1 "$folder" | grep -cE '^kronos-[0-9TZ]+[.]dump$') of at most $KEEP"
