/// The shaders are embedded: a new file among them rebuilds the crate.
fn main() {
    println!("cargo::rerun-if-changed=shaders");
}
