/// Also for what librdkafka takes. A seventh less CPU per event than glibc's in the ingress (docs/measurements.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    headwater_cli::main()
}
