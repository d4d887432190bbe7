# Create the bots' role. It owns their database and is not a superuser. The postgres image runs this
# script once, when it initialises the volume.
psql --set=ON_ERROR_STOP=1 --set=password="$KRONOS_PASSWORD" --username="$POSTGRES_USER" \
    --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE kronos LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
ALTER DATABASE :"DBNAME" OWNER TO kronos;
SQL
