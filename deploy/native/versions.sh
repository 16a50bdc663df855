# The versions of the real parts, in one place.
# shellcheck shell=bash disable=SC2034

KAFKA_VERSION=4.1.2
KAFKA_LOG4J_VERSION=2.25.3      # the one Kafka's own dependencies ask for
JAVA_VERSION=17                 # installed only where no java of at least this version is found
POSTGRES_VERSION=15             # major; Debian 12's, any minor of it
POSTGRES_MAVEN_VERSION=15.19.0  # the same major from Maven, where Debian's cannot be installed
REDIS_VERSION=7.0               # Debian 12's
GO_VERSION=1.24                 # at least; FerretDB's own version stands in ferretdb/go.mod
MAVEN_DEPENDENCY_PLUGIN_VERSION=3.8.1
