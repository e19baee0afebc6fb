//! Prints how long building 16 and 64 nodes around a core takes, next to `ip -batch`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    harness::host::enter()?;
    for nodes in [16, 64] {
        let f = harness::bench::build(nodes, 7)?;
        println!(
            "{nodes} nodes: {:.1} ms, ip -batch {:.1} ms, ratio {:.2}, teardown {:.2} ms",
            f.ours_ms, f.ip_batch_ms, f.ratio_to_ip_batch, f.teardown_ms
        );
    }
    Ok(())
}
