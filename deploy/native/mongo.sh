# A store that speaks MongoDB's protocol: the machine's mongod, else FerretDB over a PostgreSQL of its own, which lives and
# dies with it, so that the part fails alone and as a whole.
# shellcheck shell=bash disable=SC2034 # parts are called by name

mongo_install() {
  if command -v mongod >/dev/null; then return; fi
  postgres_install
  go_program ferretdb
}

mongo_start() {
  settle_port mongo port "${HEADWATER_MONGO_PORT:-}"
  if command -v mongod >/dev/null; then mongo_start_mongod; else mongo_start_ferretdb; fi
}

mongo_start_mongod() {
  local home
  home=$(home_of mongo)
  mkdir -p "$home/data"
  mongod --version | sed -n 's/^db version v//p' >"$home/version"
  start_process mongo mongod --bind_ip 127.0.0.1 --port "$(recorded mongo port)" --dbpath "$home/data"
}

# fsync is off: what was acknowledged is with the system and survives kill -9 of everything here, which is what the fault
# tests do; it does not survive a loss of power. A cluster that is reached from this machine only needs no more.
mongo_start_ferretdb() {
  local home
  home=$(home_of mongo)
  settle_port mongo postgres.port ""
  postgres_prepare mongo "$(recorded mongo postgres.port)" off
  echo "$(module_version ferretdb github.com/FerretDB/FerretDB)-ferretdb" >"$home/version"
  # What a client asks takes a connection of the pool; its default of four would hold others up. The password is not in
  # the command line, which every user of the machine can read.
  PGPASSWORD=$(recorded mongo password) start_process mongo "$go_program" -listen "127.0.0.1:$(recorded mongo port)" \
    -postgresql "postgres://headwater@127.0.0.1:$(recorded mongo postgres.port)/headwater?pool_max_conns=32" \
    -- "${postgres_command[@]}"
}

# An OP_MSG {ping: 1, $db: "admin"}, which FerretDB passes on to its PostgreSQL; the answer is {ok: 1.0}.
mongo_answers() {
  local answer
  # shellcheck disable=SC2016 # $db is a name
  answer=$(ask "$(recorded mongo port)" \
    '\063\0\0\0\001\0\0\0\0\0\0\0\335\007\0\0\0\0\0\0\0\036\0\0\0\020ping\0\001\0\0\0\002$db\0\006\0\0\0admin\0\0' 38)
  [[ $answer == *016f6b00000000000000f03f* ]]
}

mongo_stop_signal() { echo TERM; }

mongo_env() { printf 'export MONGODB_URI=mongodb://127.0.0.1:%s/headwater\n' "$(recorded mongo port)"; }
