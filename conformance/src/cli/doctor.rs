//! `lisplab doctor`.

use harness::doctor::{Finding, Need, examine, is_healthy};

use super::{Exit, complain, print, print_json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Exit {
    if let Err(error) = harness::host::enter() {
        return complain(error, Exit::Host);
    }
    let findings = examine();
    if args.json {
        print_json(&serde_json::json!({
            "format": 1,
            "healthy": is_healthy(&findings),
            "findings": findings,
        }));
    } else {
        print(&text(&findings));
    }
    if is_healthy(&findings) {
        Exit::Fine
    } else {
        Exit::Host
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let state = match (finding.works, finding.need) {
            (true, _) => "yes",
            (false, Need::Required) => "NO",
            (false, Need::Useful) => "no",
            (false, Need::Optional) => "-",
        };
        text.push_str(&format!(
            "{:<12} {state:<4} {}\n",
            finding.name, finding.detail
        ));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{:<17} {remedy}\n", ""));
        }
    }
    text.push_str(if is_healthy(findings) {
        "labs run here\n"
    } else {
        "labs do not run here: do what stands below NO\n"
    });
    text
}
