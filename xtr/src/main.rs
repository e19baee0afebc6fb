//! Binary.
fn main() {
    eprintln!("not yet");
    std::process::exit(2);
}
