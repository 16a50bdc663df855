# Jaeger, all in one process, its traces in memory, built with Go. The page it serves is a placeholder; its API is real.
# shellcheck shell=bash disable=SC2034,SC2154 # parts are called by name, and share variables

JAEGER_PACKAGE=github.com/jaegertracing/jaeger/cmd/all-in-one

jaeger_install() { go_program jaeger "$JAEGER_PACKAGE"; }

jaeger_start() {
  local home
  home=$(home_of jaeger)
  settle_port jaeger port "${HEADWATER_JAEGER_PORT:-}"
  settle_port jaeger query.port ""
  render jaeger.yaml "$home/jaeger.yaml" "port=$(recorded jaeger port)" "query_port=$(recorded jaeger query.port)"
  module_version jaeger github.com/jaegertracing/jaeger >"$home/version"
  # or it would send traces of itself to whoever listens on the usual port
  OTEL_TRACES_SAMPLER=always_off start_process jaeger "$go_program" "--config-file=$home/jaeger.yaml"
}

# Both doors: HTTP/2 answers its preface with a SETTINGS frame (type 4), the query service a list.
jaeger_answers() {
  [[ $(ask "$(recorded jaeger port)" 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\004\0\0\0\0\0' 4) == ??????04 ]] &&
    [[ $(ask "$(recorded jaeger query.port)" 'GET /api/services HTTP/1.0\r\n\r\n' 15) == "$(printf 'HTTP/1.0 200 OK' | od -An -v -tx1 | tr -d ' \n')" ]]
}

jaeger_stop_signal() { echo TERM; }

jaeger_env() {
  printf 'export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:%s\nexport JAEGER_URL=http://127.0.0.1:%s\n' \
    "$(recorded jaeger port)" "$(recorded jaeger query.port)"
}
