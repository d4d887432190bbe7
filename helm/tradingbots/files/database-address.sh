# Sets `address`, from which pg_dump and pg_restore connect: the database of the bots' settings.
set -euo pipefail
umask 077
address=${DATABASE_URL:-${POSTGRES_URI:-}}
case $address in
    sqlite:*) echo "the database is a SQLite file: copy that" >&2; exit 2 ;;
    ?*) address=postgresql://${address#*://} ;; # where SQLAlchemy names its driver too
    *)
        if [ -z "${POSTGRES_HOST:-}" ]; then
            echo "no database: set DATABASE_URL, or POSTGRES_HOST and its kin, in the secret" >&2
            exit 2
        fi
        export PGHOST=$POSTGRES_HOST PGPORT=${POSTGRES_PORT:-5432} PGUSER=${POSTGRES_USER:-}
        export PGPASSWORD=${POSTGRES_PASSWORD:-} PGDATABASE=${POSTGRES_DATABASE:-${POSTGRES_USER:-}}
        address=application_name=kronos-backup
        ;;
esac
folder=${BACKUP_FOLDER:-/backup}
