# Apache Kafka, one node in KRaft mode, from Maven.
# shellcheck shell=bash disable=SC2034 # parts are called by name

kafka_install() {
  need_java
  fill_once "kafka-$KAFKA_VERSION" from_maven kafka copy-dependencies \
    "-Dkafka.version=$KAFKA_VERSION" "-Dlog4j.version=$KAFKA_LOG4J_VERSION"
}

# Sets kafka_java, to be put before options, main class and arguments, and kafka_classes: the archive of loaded classes
# that halves the time of a start. It holds for one java only, and java passes over one that does not fit.
kafka_find() {
  kafka_classes=$CACHE/kafka-$KAFKA_VERSION-java-$(stat -Lc %Y "$(command -v java)").jsa
  kafka_java=(java -Djava.awt.headless=true "-Dlog4j2.configurationFile=$NATIVE/kafka-log4j2.properties"
    -cp "$CACHE/kafka-$KAFKA_VERSION/*")
}

kafka_start() {
  local home id writer classes=() kafka_java kafka_classes
  kafka_find
  if [[ -f $kafka_classes ]]; then
    classes=("-XX:SharedArchiveFile=$kafka_classes")
  else
    # The first broker that ends in peace writes it; it holds this lock as long as it lives, so that no other does too.
    exec {writer}>"$kafka_classes.lock"
    ! flock -n "$writer" || classes=("-XX:ArchiveClassesAtExit=$kafka_classes")
  fi
  home=$(home_of kafka)
  settle_port kafka port "${HEADWATER_KAFKA_PORT:-}"
  settle_port kafka controller.port ""
  render kafka.properties "$home/server.properties" "home=$home" "port=$(recorded kafka port)" \
    "advertised_port=${HEADWATER_KAFKA_ADVERTISED_PORT:-$(recorded kafka port)}" \
    "controller_port=$(recorded kafka controller.port)"
  if [[ ! -f $home/data/meta.properties ]]; then
    # A cluster id is 16 bytes in URL-safe base64; the first letter is fixed, since a dash would look like an option.
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_')
    "${kafka_java[@]}" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format \
      --cluster-id "H${id:1:21}" --config "$home/server.properties" >>"$home/log" 2>&1 ||
      fail "kafka: formatting $home/data failed: $(last_words kafka)"
  fi
  echo "$KAFKA_VERSION" >"$home/version"
  start_process kafka "${kafka_java[@]}" "${classes[@]}" -Xms256m "-Xmx${HEADWATER_KAFKA_HEAP:-768m}" \
    -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:+ExitOnOutOfMemoryError kafka.Kafka "$home/server.properties"
}

# A Metadata request, version 1, about no topic. The broker serves clients only once it is let into the cluster, so an
# answer that lists at least one broker (the third word) means ready.
kafka_answers() {
  local answer
  answer=$(ask "$(recorded kafka port)" '\0\0\0\016\0\3\0\1\0\0\0\7\377\377\0\0\0\0' 12)
  [[ $answer == 0000????00000007???????? && $answer != *00000000 ]]
}

kafka_stop_signal() { echo TERM; }

kafka_env() { printf 'export KAFKA_BROKERS=127.0.0.1:%s\n' "$(recorded kafka port)"; }

# kafka_tool <main class> <arguments...>: one of Kafka's own tools, told where the broker is.
kafka_tool() {
  local kafka_java kafka_classes
  [[ $# -gt 0 ]] || misused "name a class"
  wanted kafka || fail "kafka is not up: stack up kafka"
  kafka_find
  exec "${kafka_java[@]}" -Dheadwater.log=error "$1" --bootstrap-server "127.0.0.1:$(recorded kafka port)" "${@:2}"
}
