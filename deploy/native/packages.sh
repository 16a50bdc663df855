# Where programs come from: the machine's own, Debian's packages, Maven, Go modules. Everything fetched is kept under $CACHE.
# shellcheck shell=bash

CACHE=$(realpath -m "${HEADWATER_NATIVE_CACHE:-$HOME/.cache/headwater/native}")

is_root() { [[ $EUID == 0 ]]; }

# fill_once <folder in the cache> <command...>: runs the command with a fresh folder as last argument and puts that in
# place when it succeeded, so that a folder in the cache is always complete; two runs at the same time fetch once.
fill_once() {
  local folder=$CACHE/$1 fresh filling
  shift
  [[ -d $folder ]] && return
  mkdir -p "$CACHE"
  exec {filling}>"$folder.lock"
  flock "$filling"
  if [[ ! -d $folder ]]; then
    rm -rf "$folder".new.*
    fresh=$(mktemp -d "$folder.new.XXXXXX")
    chmod 755 "$fresh"
    "$@" "$fresh"
    mv "$fresh" "$folder"
  fi
  exec {filling}>&-
}

# apt_install <package...>: one at a time, since parts are installed side by side.
apt_install() {
  local turn
  is_root || fail "missing: $* (installing packages takes root: apt-get install --no-install-recommends $*)"
  mkdir -p "$CACHE"
  exec {turn}>"$CACHE/apt.lock"
  flock "$turn"
  note "installing $*"
  # The package lists may be missing or older than the mirror: fetched only when the first try says so.
  { apt_get install "$@" || { apt_get update && apt_get install "$@"; }; } >"$CACHE/apt.log" 2>&1 ||
    fail "apt-get install $* failed: $(grep -E '^E:' "$CACHE/apt.log" | tail -1), all of it in $CACHE/apt.log"
  exec {turn}>&-
}

apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o DPkg::Lock::Timeout=120 --no-install-recommends "$@"
}

have_java() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p') || return 1
  [[ $version ]] && ((version >= JAVA_VERSION))
}

need_java() {
  have_java || apt_install "openjdk-$JAVA_VERSION-jre-headless"
  have_java || fail "java is older than $JAVA_VERSION: $(command -v java)"
}

# from_maven <profile of pom.xml> <goal> <-Dname=value...> <folder>: the artifacts of that profile, into the folder.
from_maven() {
  local profile=$1 goal=$2 folder=${*: -1}
  need_java
  command -v mvn >/dev/null || apt_install maven
  note "fetching $profile with maven"
  # From a copy of the pom: the plugin leaves a target folder beside it.
  install -D -m 644 "$NATIVE/pom.xml" "$folder.maven/pom.xml"
  mvn -B -ntp -C -f "$folder.maven/pom.xml" -P "$profile" \
    "org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY_PLUGIN_VERSION:$goal" "${@:3:$#-3}" \
    -DincludeScope=runtime -DoutputDirectory="$folder" >"$CACHE/maven-$profile.log" 2>&1 ||
    fail "maven failed for $profile: $(grep -m1 '^\[ERROR\]' "$CACHE/maven-$profile.log"), all of it in $CACHE/maven-$profile.log"
  rm -rf "$folder.maven"
}

# Debian's own Go is too old to fetch a newer one.
need_go() {
  local version
  version=$(go env GOVERSION 2>/dev/null) || fail "$1 is built with Go: install Go $GO_VERSION or later"
  [[ $(printf '%s\n' "go$GO_VERSION" "$version" | sort -V | head -1) == "go$GO_VERSION" ]] ||
    fail "$1 is built with Go $GO_VERSION or later, not $version: $(command -v go)"
}

# go_program <folder beside this file>: sets go_program to the program built from it. Its folder in the cache is named
# after its sources, so that a change of them is built anew.
go_program() {
  local name=$1 sources
  sources=$(cd "$NATIVE/$name" && cat ./*.go go.mod go.sum | sha256sum)
  go_program=$CACHE/$name-${sources:0:16}/$name
  [[ -x $go_program ]] && return
  need_go "$name"
  fill_once "$name-${sources:0:16}" build_go "$name"
}

build_go() {
  note "building $1, which takes some minutes the first time"
  (cd "$NATIVE/$1" && CGO_ENABLED=0 nice go build -p 2 -mod=readonly -buildvcs=false -ldflags='-s -w' -o "$2/$1" .) \
    >"$CACHE/$1.log" 2>&1 || fail "$1 cannot be built: $(head -n 1 "$CACHE/$1.log"), all of it in $CACHE/$1.log"
}

# module_version <folder> <module>: as its go.mod has it, without the v.
module_version() { awk -v module="$2" '$1 == module { print substr($2, 2) }' "$NATIVE/$1/go.mod"; }
