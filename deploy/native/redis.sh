# Redis: the machine's, else Debian's.
# shellcheck shell=bash

# Sets redis_server and redis_libraries, if a server of the pinned version is there and works.
redis_find() {
  local fetched=$CACHE/redis-$REDIS_VERSION
  for redis_server in "$(command -v redis-server || true)" "$CACHE/redis-server" "$fetched/redis-server"; do
    redis_libraries=
    [[ $redis_server != "$fetched"/* ]] || redis_libraries=$(echo "$fetched"/usr/lib/*-linux-gnu)
    [[ $(LD_LIBRARY_PATH=$redis_libraries "$redis_server" --version 2>/dev/null) != *"v=$REDIS_VERSION"* ]] || return 0
  done
  return 1
}

# The server is in redis-tools too, as redis-check-rdb: one program that goes by the name it is called. Debian's package
# redis-server is the same link and a service, which would start by itself.
redis_install() {
  redis_find && return
  ! is_root || command -v redis-check-rdb >/dev/null || apt_install redis-tools
  if command -v redis-check-rdb >/dev/null; then
    mkdir -p "$CACHE"
    ln -sfn "$(command -v redis-check-rdb)" "$CACHE/redis-server"
  else
    fill_once "redis-$REDIS_VERSION" redis_unpack
  fi
  redis_find || fail "redis $REDIS_VERSION was installed and does not run"
}

# Without root: the packages are unpacked beside each other.
redis_unpack() {
  local folder=$1 package
  note "fetching redis"
  mkdir "$folder/packages"
  (cd "$folder/packages" && apt-get download -qq redis-tools libjemalloc2 liblzf1 libatomic1) >"$CACHE/redis.log" 2>&1 ||
    fail "redis cannot be fetched: $(grep -m1 '^E:' "$CACHE/redis.log") (as root: apt-get install redis-tools)"
  for package in "$folder"/packages/*.deb; do dpkg-deb -x "$package" "$folder"; done
  rm -rf "$folder/packages"
  ln -s usr/bin/redis-check-rdb "$folder/redis-server"
}

redis_start() {
  local home
  home=$(home_of redis)
  settle_port redis port "${HEADWATER_REDIS_PORT:-}"
  mkdir -p "$home/data"
  render redis.conf "$home/redis.conf" "home=$home" "port=$(recorded redis port)"
  LD_LIBRARY_PATH=$redis_libraries "$redis_server" --version | sed 's/.*v=\([0-9.]*\).*/\1/' >"$home/version"
  start_process redis env "LD_LIBRARY_PATH=$redis_libraries" "$redis_server" "$home/redis.conf"
}

# "+PONG"; a server that still reads its file answers "-LOADING".
redis_answers() { [[ $(ask "$(recorded redis port)" 'PING\r\n' 5) == 2b504f4e47 ]]; }

redis_stop_signal() { echo TERM; }

redis_env() { printf 'export REDIS_URL=redis://127.0.0.1:%s\n' "$(recorded redis port)"; }
