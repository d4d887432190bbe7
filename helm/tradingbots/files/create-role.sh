# The bots' role, which owns their database and is no superuser. The postgres image runs this once.
psql --set=ON_ERROR_STOP=1 --set=password="$KRONOS_PASSWORD" --username="$POSTGRES_USER" \
    --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE kronos LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
ALTER DATABASE :"DBNAME" OWNER TO kronos;
SQL
