# PostgreSQL: the machine's, else Debian's for root, else Maven's binaries. As root it runs as the user postgres.
# What takes a part works for any part with a cluster of its own in its folder.
# shellcheck shell=bash

# Sets postgres_bin, if programs of the pinned major are there and work.
postgres_find() {
  local bin
  for bin in "/usr/lib/postgresql/$POSTGRES_VERSION/bin" "$(dirname "$(command -v postgres || echo /)")" \
    "$CACHE/postgres-$POSTGRES_MAVEN_VERSION/bin"; do
    [[ $("$bin/postgres" --version 2>/dev/null) == *" $POSTGRES_VERSION."* && -x $bin/initdb ]] || continue
    postgres_bin=$bin
    return
  done
  return 1
}

postgres_install() {
  postgres_find && return
  if is_root; then
    # Debian's package makes a cluster of its own and starts it, unless told not to before it is there.
    install -D -m 644 /dev/stdin /etc/postgresql-common/createcluster.d/headwater.conf <<<'create_main_cluster = false'
    apt_install "postgresql-$POSTGRES_VERSION"
  else
    fill_once "postgres-$POSTGRES_MAVEN_VERSION" postgres_from_maven
  fi
  postgres_find || fail "postgres $POSTGRES_VERSION was installed and does not run"
}

postgres_from_maven() {
  local folder=$1 arch
  case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64v8 ;;
    *) fail "postgres: no binaries for $(uname -m): install PostgreSQL $POSTGRES_VERSION" ;;
  esac
  command -v xz >/dev/null || apt_install xz-utils
  from_maven postgres unpack-dependencies "-Dpostgres.arch=$arch" "-Dpostgres.version=$POSTGRES_MAVEN_VERSION" "$folder"
  tar -xJf "$folder"/postgres-linux-*.txz -C "$folder"
  rm -rf "$folder"/postgres-linux-*.txz "$folder/META-INF"
}

# postgres_user <part>: PostgreSQL refuses to run as root. Sets as_postgres, to be put before a command.
postgres_user() {
  as_postgres=()
  is_root || return 0
  id -u postgres >/dev/null 2>&1 || fail "postgres: there is no user postgres to run it as: adduser --system --group postgres"
  as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups --)
  "${as_postgres[@]}" test -x "$DATA/$1" ||
    fail "postgres: its user cannot enter $DATA: set HEADWATER_NATIVE_DIR to a folder open to all users"
}

postgres_start() {
  settle_port postgres port "${HEADWATER_POSTGRES_PORT:-}"
  postgres_prepare postgres "$(recorded postgres port)" on
  postgres_version_number >"$(home_of postgres)/version"
  start_process postgres "${postgres_command[@]}"
}

postgres_version_number() { "$postgres_bin/postgres" --version | sed 's/[^0-9]*\([0-9.]*\).*/\1/'; }

# postgres_prepare <part> <port> <fsync: on|off>: a cluster in the part's folder, ready to be started.
# Sets postgres_command, which starts it.
postgres_prepare() {
  local part=$1 home sockets
  home=$(home_of "$part")
  postgres_user "$part"
  postgres_bury "$part"
  sockets=$home/sockets
  mkdir -p "$sockets"
  ! is_root || chown postgres "$sockets"
  [[ -f $home/cluster/PG_VERSION ]] || postgres_init "$part"
  [[ $(<"$home/cluster/PG_VERSION") == "$POSTGRES_VERSION" ]] ||
    fail "$part: $home holds data of PostgreSQL $(<"$home/cluster/PG_VERSION"), not $POSTGRES_VERSION: stack down --wipe $part"
  # A socket's path has at most 107 bytes.
  ((${#sockets} < 85)) || sockets=
  render postgresql.conf "$home/postgresql.conf" "port=$2" "sockets=$sockets" "fsync=$3"
  postgres_command=("${as_postgres[@]}" "$postgres_bin/postgres" -D "$home/cluster" -c "config_file=$home/postgresql.conf")
}

# postgres_init <part>: made beside its place and moved when complete: an interrupted initdb is done again.
postgres_init() {
  local part=$1 home fresh
  home=$(home_of "$part")
  fresh=$home/cluster.new
  rm -rf "$fresh"
  mkdir "$fresh"
  (umask 077 && tr -d - </proc/sys/kernel/random/uuid >"$home/password")
  ! is_root || chown postgres "$fresh" "$home/password"
  {
    "${as_postgres[@]}" "$postgres_bin/initdb" -D "$fresh" --username=headwater --pwfile="$home/password" \
      --auth=scram-sha-256 --encoding=UTF8 --locale=C &&
      echo 'CREATE DATABASE headwater;' | "${as_postgres[@]}" "$postgres_bin/postgres" --single -D "$fresh" postgres
  } >>"$home/log" 2>&1 || fail "$part: making a cluster failed: $(last_words "$part")"
  mv "$fresh" "$home/cluster"
}

# postgres_bury <part>: when the parent alone was killed its sessions may live on, and PostgreSQL does not start beside
# them: whatever still works in the cluster's folder is killed, nothing that it does counts. After that its lock files are
# certainly stale; PostgreSQL itself would still honour them where nobody has reaped the killed parent.
postgres_bury() {
  local cluster=$DATA/$1/cluster pid
  until
    pid=$(find /proc/[0-9]*/cwd -lname "$cluster" 2>/dev/null | cut -d / -f 3)
    [[ ! $pid ]]
  do
    # shellcheck disable=SC2086 # a list of pids
    kill -KILL $pid 2>/dev/null || true
    sleep 0.05
  done
  rm -f "$cluster/postmaster.pid" "$DATA/$1/sockets/".s.PGSQL.*
}

# SELECT 1, or where there is no psql a startup message: it is answered by "R", how to authenticate, only by a server that
# lets clients in.
postgres_answers() {
  if [[ ${postgres_bin:-} ]] || postgres_find && [[ -x $postgres_bin/psql ]]; then
    [[ $(PGCONNECT_TIMEOUT=2 timeout 3 "$postgres_bin/psql" -XAtqc 'SELECT 1' "$(postgres_url)" 2>/dev/null) == 1 ]]
  else
    [[ $(ask "$(recorded postgres port)" \
      '\0\0\0\053\0\3\0\0user\0headwater\0database\0headwater\0\0' 1) == 52 ]]
  fi
}

# SIGINT: sessions are cut off and work is finished. SIGTERM would wait for clients to go.
postgres_stop_signal() { echo INT; }

postgres_url() {
  printf 'postgres://headwater:%s@127.0.0.1:%s/headwater' "$(recorded postgres password)" "$(recorded postgres port)"
}

postgres_env() { printf 'export DATABASE_URL=%s\n' "$(postgres_url)"; }
