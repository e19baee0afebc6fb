//! The conformance cases as tests: `cargo test`, and `cargo nextest run` with a process for each.
//!
//! Listing needs no privilege and writes nothing. Where namespaces cannot be made, one failure says what is missing;
//! with LISPLAB_SKIP_WITHOUT_NETNS=1 the cases are listed as ignored instead. LISPLAB_IMPLEMENTATION, LISPLAB_EDITION and
//! LISPLAB_OUT say what `lisplab test` is told by --implementation, --edition and --out (docs/spreading.md). Without
//! LISPLAB_EDITION every case runs: by the older texts, or by the newer ones where only these speak of it. With it, cases
//! that the edition does not ask for are listed as ignored: a skip at run time would be shown as a pass.

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use conformance::baseline::Baseline;
use conformance::case::{self, Case};
use conformance::edition::Edition;
use conformance::implementation::Implementation;
use conformance::results::Results;
use conformance::runner::{Options, Run, default_jobs, longest_first, run_case};
use conformance::{home, suite};
use libtest_mimic::{Arguments, Failed, Trial};

/// Set for the child that only finds out whether namespaces can be made.
const PROBE: &str = "LISPLAB_PROBE_NAMESPACES";

fn main() -> ExitCode {
    if std::env::var_os(PROBE).is_some() {
        return ExitCode::from(u8::from(harness::host::enter().is_err()));
    }
    let arguments = Arguments::from_args();
    let cases: Vec<&'static Case> = chosen(&arguments);
    let names: HashSet<&str> = cases.iter().map(|case| case.name()).collect();
    assert_eq!(names.len(), cases.len(), "case names are unique");
    let asked = match asked_edition() {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("Error: {problem}");
            return ExitCode::from(2);
        }
    };
    let skip = std::env::var_os("LISPLAB_SKIP_WITHOUT_NETNS").is_some_and(|value| value == "1");
    if arguments.list {
        let ignored = skip && !can_make_namespaces();
        let trials = cases
            .into_iter()
            .map(|case| trial(case, asked, None, ignored))
            .collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    // Cases wait most of their time.
    let mut arguments = arguments;
    arguments.test_threads = Some(arguments.test_threads.unwrap_or_else(default_jobs));
    let runnable = cases
        .iter()
        .any(|case| !case.slow || arguments.ignored || arguments.include_ignored);
    let suite = if runnable {
        Suite::new(arguments.ignored || arguments.include_ignored).map(Arc::new)
    } else {
        Err("only slow cases were asked for".to_owned())
    };
    let trials = match suite {
        Ok(suite) => longest_first(cases.iter().copied())
            .into_iter()
            .map(|at| trial(cases[at], asked, Some(Arc::clone(&suite)), false))
            .collect(),
        Err(_) if !runnable || skip => cases
            .into_iter()
            .map(|case| trial(case, asked, None, true))
            .collect(),
        // One failure, not one for each case.
        Err(problem) => vec![Trial::test("namespaces_can_be_made", move || {
            Err(fail(&problem))
        })],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The cases that the arguments can mean. `--exact NAME` is a look-up.
fn chosen(arguments: &Arguments) -> Vec<&'static Case> {
    match &arguments.filter {
        Some(name) if arguments.exact => case::find(name).into_iter().collect(),
        _ => case::all().to_vec(),
    }
}

fn trial(
    case: &'static Case,
    asked: Option<Edition>,
    suite: Option<Arc<Suite>>,
    ignored: bool,
) -> Trial {
    let edition = edition_of(case, asked);
    Trial::test(case.name(), move || match suite {
        Some(suite) => suite.run(case, edition.or(asked).unwrap_or_default()),
        None => Err("this host lets nobody make namespaces".into()),
    })
    .with_ignored_flag(ignored || case.slow || edition.is_none())
}

/// The edition that a case is run in: the one asked for, or the first that it can judge. None if it does not apply.
fn edition_of(case: &Case, asked: Option<Edition>) -> Option<Edition> {
    match asked {
        Some(asked) => case.editions.contains(&asked).then_some(asked),
        None => Edition::ALL
            .iter()
            .copied()
            .find(|edition| case.editions.contains(edition)),
    }
}

/// Asks a child, so that nothing changes here.
fn can_make_namespaces() -> bool {
    let child = std::env::current_exe().and_then(|executable| {
        std::process::Command::new(executable)
            .env(PROBE, "1")
            .status()
    });
    child.is_ok_and(|status| status.success())
}

fn fail(problem: &str) -> Failed {
    // Runners show the line that begins so.
    eprintln!("Error: {problem}");
    problem.into()
}

/// LISPLAB_EDITION, in the words of `lisplab test --edition`.
fn asked_edition() -> Result<Option<Edition>, String> {
    match std::env::var("LISPLAB_EDITION") {
        Ok(name) => clap::ValueEnum::from_str(&name, true)
            .map(Some)
            .map_err(|_| format!("LISPLAB_EDITION: expected 6830 or 9300, found {name:?}")),
        Err(_) => Ok(None),
    }
}

struct Suite {
    /// Of all cases but for the edition, which each has for itself.
    options: Options,
    /// What the results of all cases have in common, but for the edition.
    results: Results,
    baseline: Baseline,
    built: OnceLock<Result<(), String>>,
}

impl Suite {
    /// `slow`: long cases were asked for.
    fn new(slow: bool) -> Result<Suite, String> {
        let implementation =
            std::env::var("LISPLAB_IMPLEMENTATION").unwrap_or_else(|_| "lisplab".to_owned());
        let implementation =
            Implementation::load(&implementation).map_err(|error| error.to_string())?;
        let out = match std::env::var_os("LISPLAB_OUT") {
            Some(out) => {
                std::path::absolute(out).map_err(|error| format!("LISPLAB_OUT: {error}"))?
            }
            None => home::checkout()
                .map(Path::to_owned)
                .or_else(|| std::env::current_dir().ok())
                .ok_or("there is neither a checkout nor a working folder; set LISPLAB_OUT")?
                .join("target")
                .join("lisplab-cargo-test"),
        };
        let options = Options {
            implementation,
            edition: Edition::default(),
            strict: false,
            seed: 1,
            out,
            jobs: 1,
            keep: false,
            bundles: true,
            require_tshark: std::env::var_os("LISPLAB_REQUIRE_TSHARK")
                .is_some_and(|value| value == "1"),
            slow,
        };
        std::fs::create_dir_all(&options.out).map_err(|error| {
            format!(
                "{}: {error}\n  hint: set LISPLAB_OUT to a folder that can be written",
                options.out.display()
            )
        })?;
        let baseline = Baseline::of(&options.implementation.name)?;
        let built = OnceLock::new();
        // Before the user namespace: cargo is the user's.
        built.get_or_init(|| suite::prepare(&options));
        harness::host::enter().map_err(|error| error.to_string())?;
        Ok(Suite {
            results: suite::results(&options),
            options,
            baseline,
            built,
        })
    }

    fn run(&self, case: &'static Case, edition: Edition) -> Result<(), Failed> {
        if let Some(Err(problem)) = self.built.get() {
            return Err(fail(problem));
        }
        let options = Options {
            edition,
            ..self.options.clone()
        };
        let run = Run {
            case,
            sabotage: None,
            repetition: 0,
            options: &options,
        };
        let mut result = run_case(&run, &|_| {});
        self.baseline.apply(&mut result);
        // One file a case: each may be a process of its own, on a machine of its own. `lisplab report` reads them as one run.
        let part = Results {
            edition,
            cases: vec![result.clone()],
            ..self.results.clone()
        };
        part.write_part(&self.options.out, &run.folder())
            .map_err(|error| fail(&format!("{}: {error}", self.options.out.display())))?;
        if result.is_expected() {
            return Ok(());
        }
        let mut text = conformance::text::failure(&result, &self.options.out);
        if result.expected_because.is_some() {
            text.push_str("  the baseline expects something else: it is stale\n");
        }
        Err(fail(&text))
    }
}
