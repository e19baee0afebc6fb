//! `lisplab test`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conformance::baseline::{self, Baseline};
use conformance::case;
use conformance::edition::Edition;
use conformance::implementation::Implementation;
use conformance::results::{CaseResult, Results};
use conformance::runner::{Options, Run, Selection, default_jobs, glob_matches};
use conformance::suite;

use super::interrupt::run_cases;
use super::{Exit, complain, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// List the cases instead of running them.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) how: How,
    /// Run each case so many times, each with a seed of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// A file of expected failures; that of the implementation if not given.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write the baseline that makes this run as expected.
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
    /// For programs: what is in `results.json`, or with --list the cases; see docs/formats.md.
    #[arg(long)]
    json: bool,
}

/// Which cases.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Only cases whose id matches (`*` any characters, `?` one). May be given several times.
    #[arg(long = "case", value_name = "GLOB")]
    cases: Vec<String>,
    /// Only cases that judge a requirement whose id matches.
    #[arg(long = "requirement", value_name = "GLOB")]
    requirements: Vec<String>,
    /// Only cases that judge this role: itr, etr, ms, mr, pitr, petr.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Also cases that wait for long timers.
    #[arg(long)]
    slow: bool,
}

impl Which {
    /// Whether long cases are asked for.
    pub(crate) fn takes_slow(&self) -> bool {
        self.slow
    }

    /// The cases, or what is wrong with the question.
    pub(crate) fn cases(&self) -> Result<Vec<&'static case::Case>, String> {
        let known = conformance::catalogue::catalogue().roles();
        if let Some(role) = self.roles.iter().find(|role| !known.contains_key(*role)) {
            let roles: Vec<&str> = known.keys().map(String::as_str).collect();
            return Err(format!(
                "there is no role {role}\n  hint: one of {}",
                roles.join(", ")
            ));
        }
        for glob in &self.cases {
            if !case::all().iter().any(|case| glob_matches(glob, case.id)) {
                return Err(format!(
                    "no case matches {glob}\n  hint: lisplab test --list shows all"
                ));
            }
        }
        let selection = Selection {
            cases: self.cases.clone(),
            requirements: self.requirements.clone(),
            roles: self.roles.clone(),
            slow: self.slow,
        };
        let cases: Vec<_> = case::all()
            .iter()
            .copied()
            .filter(|case| selection.takes(case))
            .collect();
        if cases.is_empty() {
            return Err("no case is asked for\n  hint: lisplab test --list shows all; long ones want --slow".to_owned());
        }
        Ok(cases)
    }
}

/// How they are run.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// What is tested: an adapter of conformance/implementations/, a path, or PROGRAM=ADAPTER,...
    #[arg(long, value_name = "NAME", default_value = "lisplab")]
    implementation: String,
    /// Which texts decide.
    #[arg(long, value_enum, default_value = "6830")]
    edition: Edition,
    /// A broken SHOULD fails.
    #[arg(long)]
    strict: bool,
    /// Cases at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// After a failure leave the lab standing until Enter is pressed. One case at a time.
    #[arg(long)]
    keep: bool,
    /// Where results and evidence go.
    #[arg(long, value_name = "DIR", default_value = "target/lisplab")]
    out: PathBuf,
}

impl How {
    pub(crate) fn options(&self, slow: bool) -> Result<Options, (String, Exit)> {
        self.options_for(&self.implementation, slow)
    }

    /// The same for another implementation than `--implementation` names.
    pub(crate) fn options_for(
        &self,
        implementation: &str,
        slow: bool,
    ) -> Result<Options, (String, Exit)> {
        let implementation = Implementation::load(implementation)
            .map_err(|error| (error.to_string(), Exit::Input))?;
        let out =
            std::path::absolute(&self.out).map_err(|error| (error.to_string(), Exit::Input))?;
        std::fs::create_dir_all(&out).map_err(|error| {
            (
                format!("{}: {error}\n  hint: give another --out DIR", out.display()),
                Exit::Input,
            )
        })?;
        Ok(Options {
            implementation,
            edition: self.edition,
            strict: self.strict,
            seed: self.seed,
            out,
            jobs: if self.keep {
                1
            } else {
                self.jobs.map_or_else(default_jobs, usize::from)
            },
            keep: self.keep,
            bundles: true,
            require_tshark: std::env::var_os("LISPLAB_REQUIRE_TSHARK")
                .is_some_and(|value| value == "1"),
            slow,
        })
    }
}

pub(crate) fn run(args: &Args) -> Exit {
    let cases = match args.which.cases() {
        Ok(cases) => cases,
        Err(problem) => return complain(problem, Exit::Input),
    };
    if args.list {
        if args.json {
            super::print_json(&table::list_for_programs(&cases));
        } else {
            super::print(&table::list(&cases));
        }
        return Exit::Fine;
    }
    let options = match args.how.options(args.which.slow) {
        Ok(options) => options,
        Err((problem, exit)) => return complain(problem, exit),
    };
    let baseline = match &args.baseline {
        Some(file) => Baseline::load(file),
        None => Baseline::of(&options.implementation.name),
    };
    let baseline = match baseline {
        Ok(baseline) => baseline,
        Err(problem) => return complain(problem, Exit::Input),
    };
    let place = match args.write_baseline.as_deref().map(baseline::Place::at) {
        Some(Ok(place)) => Some(place),
        Some(Err(problem)) => return complain(problem, Exit::Input),
        None => None,
    };
    if let Err(problem) = suite::prepare(&options) {
        return complain(problem, Exit::Host);
    }
    if let Err(error) = harness::host::enter() {
        return complain(error, Exit::Host);
    }
    let runs: Vec<Run<'_>> = cases
        .iter()
        .flat_map(|case| {
            (0..args.repeat).map(|repetition| Run {
                case,
                sabotage: None,
                repetition,
                options: &options,
            })
        })
        .collect();
    let baseline = Arc::new(baseline);
    let (out, json) = (options.out.clone(), args.json);
    let last_words = move |results: Option<Results>| {
        if let Some(results) = results {
            show(results, &out, json);
        }
    };
    let results = match run_cases(&runs, &options, &baseline, last_words) {
        Ok(results) => results,
        Err((problem, exit)) => return complain(problem, exit),
    };
    let written = results.write(&options.out).map_err(|error| {
        format!(
            "the results are not written: {}: {error}",
            options.out.display()
        )
    });
    let written = written.and_then(|()| {
        place.map_or(Ok(()), |place| {
            let written = place.write(&baseline.written(&results.cases));
            written.map_err(|problem| format!("the baseline is not written: {problem}"))
        })
    });
    let fine = results.cases.iter().all(CaseResult::is_expected);
    show(results, &options.out, args.json);
    match written {
        Err(problem) => complain(problem, Exit::Input),
        Ok(()) if fine => Exit::Fine,
        Ok(()) => Exit::Findings,
    }
}

fn show(results: Results, out: &Path, json: bool) {
    super::print(&if json {
        super::json(&results)
    } else {
        table::results(results, out)
    });
}
