//! Embeds the agent program into a release build of the controller.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
