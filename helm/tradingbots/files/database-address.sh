# Set `address`, the connection string for pg_dump and pg_restore, from the bots' database settings.
set -euo pipefail
umask 077
address=${DATABASE_URL:-${POSTGRES_URI:-}}
case $address in
    sqlite:*) echo "the database is a SQLite file: back it up by copying the file" >&2; exit 2 ;;
    ?*) address=postgresql://${address#*://} ;; # drop the driver of a SQLAlchemy URL
    *)
        if [ -z "${POSTGRES_HOST:-}" ]; then
            echo "no database: set DATABASE_URL or POSTGRES_* in the secret" >&2
            exit 2
        fi
        export PGHOST=$POSTGRES_HOST PGPORT=${POSTGRES_PORT:-5432} PGUSER=${POSTGRES_USER:-}
        export PGPASSWORD=${POSTGRES_PASSWORD:-} PGDATABASE=${POSTGRES_DATABASE:-${POSTGRES_USER:-}}
        address=application_name=kronos-backup
        ;;
esac
folder=${BACKUP_FOLDER:-/backup}
