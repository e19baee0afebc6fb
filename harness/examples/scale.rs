//! Prints how long a lab of many sites takes: `cargo run -p harness --example scale -- 200`.

use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    harness::host::enter()?;
    let sites = std::env::args().nth(1).unwrap_or_else(|| "200".to_owned());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/n-sites.yaml");
    let began = Instant::now();
    let topology = harness::Topology::load_with(path, &[("sites".to_owned(), sites.clone())])?;
    println!("{sites} sites: read in {:?}", began.elapsed());
    for capture in [false, true] {
        let began = Instant::now();
        let options = harness::LabOptions {
            capture,
            ..harness::LabOptions::default()
        };
        let lab = harness::Lab::up(&topology, options)?;
        println!(
            "{} nodes, capture {capture}: up in {:?}",
            topology.nodes.len(),
            began.elapsed()
        );
        let began = Instant::now();
        lab.ping("xtr-1", "198.51.100.10".parse()?, &harness::Ping::default())?;
        lab.ping(
            &format!("xtr-{sites}"),
            "198.51.100.10".parse()?,
            &harness::Ping::default(),
        )?;
        println!("two pings in {:?}", began.elapsed());
        let began = Instant::now();
        let recording = lab.finish();
        println!(
            "finished in {:?}, {} packets",
            began.elapsed(),
            recording.packets.len()
        );
    }
    Ok(())
}
