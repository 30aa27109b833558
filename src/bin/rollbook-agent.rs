//! The agent: speaks over its own stdin and stdout.

fn main() -> std::process::ExitCode {
    rollbook::agent::main_from_args(std::env::args().skip(1))
}
