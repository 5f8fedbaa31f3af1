//! The truth table: in each situation, whether the Model's conditions say what a client of the Gateway
//! gets.
//!
//! A situation is one change to an exposure that works, or to a Model that cannot be exposed. While it
//! lasts, requests are sent and the conditions read all the time, so that what is measured is how long
//! they disagreed, and not whether they agreed when somebody looked.

mod annotations;
mod case;
mod claims;
mod cluster;
mod drift;
mod gateway;
mod picker;
mod pods;
mod probe;
mod router;
mod timeline;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::json;
use testbed::{Error, Model, Options, Result, TestBed};

use case::{Case, Exposure, Record};
use probe::Question;

/// The Model of a situation.
const MODEL: &str = "demo";
/// How long request and Programmed may say different things.
const DISAGREEMENT: Duration = Duration::from_secs(5);
/// How long after the first answer the status may still be wrong, once the break is undone.
const RECOVERY: Duration = Duration::from_secs(2);
/// How long a half of a situation may take: probes need 15 s to find that an engine is not well.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many situations run at a time, as far as they do not disturb each other.
const TOGETHER: usize = 6;

/// In place of a reason: any, but the condition is not True.
const NOT_TRUE: &str = "(not True)";
/// In place of a reason: the condition is not there.
const ABSENT: &str = "(absent)";
/// In place of a reason: whatever the condition says.
const ANY: &str = "(any)";

/// What requests and status have to be.
#[derive(Clone, Copy, Debug)]
struct Expect {
    /// Whether requests are answered by a pod of the Model.
    answered: bool,
    /// The reason of Accepted.
    accepted: &'static str,
    /// The reason of Programmed.
    programmed: &'static str,
}

impl Expect {
    const WORKS: Self = answers("Accepted", "Programmed");

    /// Whether it is expected that everything works.
    fn works(&self) -> bool {
        (self.answered, self.accepted, self.programmed) == (true, "Accepted", "Programmed")
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = if self.answered {
            "answered"
        } else {
            "not answered"
        };
        write!(
            f,
            "{request}, Accepted {}, Programmed {}",
            self.accepted, self.programmed
        )
    }
}

/// Requests are answered by a pod of the Model, and these are the reasons.
const fn answers(accepted: &'static str, programmed: &'static str) -> Expect {
    Expect {
        answered: true,
        accepted,
        programmed,
    }
}

/// Requests are not answered by a pod of the Model, and these are the reasons.
const fn fails(accepted: &'static str, programmed: &'static str) -> Expect {
    Expect {
        answered: false,
        accepted,
        programmed,
    }
}

type Pending<'c> = LocalBoxFuture<'c, Result<()>>;

type OnExposure = dyn for<'c> Fn(&'c Case<'_>, &'c Model<'_>) -> Pending<'c>;
type FromNothing = dyn for<'c> Fn(&'c Case<'_>) -> Pending<'c>;

/// What happens in a situation.
enum Run {
    /// A change to an exposure that works.
    OnExposure(Box<OnExposure>),
    /// All of it.
    FromNothing(Box<FromNothing>),
}

/// One change, and what has to come of it.
struct Situation {
    name: &'static str,
    expect: Expect,
    run: Run,
    patience: Duration,
    alone: bool,
    /// What the gateway cannot do, where request and status cannot agree for that.
    limit: Option<&'static str>,
}

impl Situation {
    /// A change to an exposure that works.
    fn new(
        name: &'static str,
        expect: Expect,
        run: impl AsyncFn(&Case<'_>, &Model<'_>) -> Result<()> + 'static,
    ) -> Self {
        let run = Rc::new(run);
        let run = Run::OnExposure(Box::new(move |case, model| {
            let run = Rc::clone(&run);
            async move { run(case, model).await }.boxed_local()
        }));
        Self::with(name, expect, run)
    }

    /// A change to what the situation makes by itself.
    fn from_nothing(
        name: &'static str,
        expect: Expect,
        run: impl AsyncFn(&Case<'_>) -> Result<()> + 'static,
    ) -> Self {
        let run = Rc::new(run);
        let run = Run::FromNothing(Box::new(move |case| {
            let run = Rc::clone(&run);
            async move { run(case).await }.boxed_local()
        }));
        Self::with(name, expect, run)
    }

    fn with(name: &'static str, expect: Expect, run: Run) -> Self {
        Self {
            name,
            expect,
            run,
            patience: PATIENCE,
            alone: false,
            limit: None,
        }
    }

    /// It touches what others rely on.
    fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// The expected reason takes this long by design.
    fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Request and status do not agree, since the gateway has this limit.
    fn excepted(mut self, limit: &'static str) -> Self {
        self.limit = Some(limit);
        self
    }

    async fn run<'b>(&self, bed: &'b TestBed, shelf: &Shelf<'b>) -> (&Self, Record, Duration) {
        let began = Instant::now();
        let record = match &self.run {
            Run::OnExposure(run) => self.on_exposure(run, bed, shelf).await,
            Run::FromNothing(run) => match bed.namespace("truth").await {
                Ok(namespace) => {
                    let case = Case::new(bed, namespace, self);
                    if let Err(error) = run(&case).await {
                        case.problem(error.to_string());
                    }
                    Ok(case.finish().0)
                }
                Err(error) => Err(error),
            },
        };
        let record = record.unwrap_or_else(|error| Record {
            problems: vec![error.to_string()],
            ..Record::default()
        });
        (self, record, began.elapsed())
    }

    async fn on_exposure<'b>(
        &self,
        run: &OnExposure,
        bed: &'b TestBed,
        shelf: &Shelf<'b>,
    ) -> Result<Record> {
        let kept = shelf.borrow_mut().pop();
        let exposure = match kept {
            Some(exposure) => exposure,
            None => Exposure::new(bed).await?,
        };
        let Exposure {
            namespace,
            model,
            gateway,
        } = exposure;
        let case = Case::new(bed, namespace, self);
        case.observe(&model, Question::of(&model, gateway))?;
        let ran = async {
            case.works().await?;
            run(&case, &model).await
        };
        if let Err(error) = ran.await {
            case.problem(error.to_string());
        }
        let gateway = case.gateway();
        let (record, namespace) = case.finish();
        if let Some(gateway) = gateway
            && record.problems.is_empty()
            && record.works_again(&self.expect)
        {
            let exposure = Exposure {
                namespace,
                model,
                gateway,
            };
            if exposure.is_as_before().await {
                shelf.borrow_mut().push(exposure);
            }
        }
        Ok(record)
    }
}

/// Exposures that work and that no situation uses.
type Shelf<'b> = RefCell<Vec<Exposure<'b>>>;

/// Every situation.
fn all() -> Vec<Situation> {
    [
        pods::situations(),
        router::situations(),
        picker::situations(),
        drift::situations(),
        gateway::situations(),
        claims::situations(),
        annotations::situations(),
        cluster::situations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs the situations whose name contains `only`, prints the table and, as the last line, a JSON object
/// with the totals. Fails unless request and status agree in all of them.
pub(crate) async fn run(only: &str) -> Result<()> {
    let mut situations = all();
    situations.retain(|situation| situation.name.contains(only));
    if situations.is_empty() {
        return Err(Error::Other(format!("no situation is called {only:?}")));
    }
    // What takes longest comes first.
    situations.sort_by_key(|situation| Reverse(situation.patience));
    let bed = TestBed::start(Options::default())?;
    bed.install_operator().await?;
    let (alone, together): (Vec<_>, Vec<_>) = situations.iter().partition(|s| s.alone);

    let shelf = Shelf::default();
    let mut table = Table::default();
    print(&row(Table::HEAD))?;
    let mut running = stream::iter(together)
        .map(|s| s.run(&bed, &shelf))
        .buffer_unordered(TOGETHER);
    while let Some((situation, record, took)) = running.next().await {
        table.add(situation, &record, took)?;
    }
    for situation in alone {
        let (situation, record, took) = situation.run(&bed, &shelf).await;
        table.add(situation, &record, took)?;
    }
    table.finish()
}

/// What is printed.
#[derive(Default)]
struct Table {
    agree: usize,
    disagree: Vec<&'static str>,
    /// Why, by the names of the situations.
    problems: Vec<String>,
    /// What they are excepted for, by the names of the situations.
    excepted: BTreeMap<&'static str, &'static str>,
    longest: Duration,
    slowest: Duration,
}

impl Table {
    const HEAD: [&'static str; 10] = [
        "situation",
        "request",
        "Accepted",
        "Programmed",
        "reason",
        "health",
        "agree",
        "disagreed",
        "right after",
        "recovered after",
    ];

    fn add(&mut self, situation: &Situation, record: &Record, took: Duration) -> Result<()> {
        let name = situation.name;
        let broken = record.broken.clone().unwrap_or_default();
        let halves = || record.broken.iter().chain(&record.undone);
        let disagreed = halves()
            .map(|half| half.disagreed.lasted)
            .max()
            .unwrap_or_default();
        let recovered = record.undone.as_ref().and_then(|half| half.right_after);
        let agree = if !record.problems.is_empty() || record.broken.is_none() {
            self.disagree.push(name);
            "NO"
        } else if let Some(limit) = situation.limit {
            self.excepted.insert(name, limit);
            "excepted"
        } else {
            self.agree += 1;
            self.longest = self.longest.max(disagreed);
            self.slowest = self.slowest.max(recovered.unwrap_or_default());
            "yes"
        };
        print(&row([
            name,
            &broken.request,
            &broken.accepted,
            &broken.programmed,
            &broken.reason,
            &broken.health,
            agree,
            &seconds(Some(disagreed)),
            &seconds(broken.right_after),
            &seconds(recovered),
        ]))?;
        let history = record.history.join("\n");
        tracing::debug!(name, ?took, "done:\n{history}");
        for problem in &record.problems {
            print(&format!("    ! {problem}"))?;
            self.problems.push(format!("{name}: {problem}"));
        }
        if !record.problems.is_empty() {
            for event in &record.history {
                print(&format!("      {event}"))?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let situations = self.agree + self.disagree.len();
        let totals = json!({
            "situations": situations,
            "agree": self.agree,
            "disagree": self.disagree,
            "excepted": self.excepted,
            "longest_disagreement_s": rounded(self.longest),
            "slowest_recovery_s": rounded(self.slowest),
        });
        print(&totals.to_string())?;
        match self.disagree.as_slice() {
            [] => Ok(()),
            some => Err(Error::Other(format!(
                "request and status do not agree in {} of {situations} situations:\n{}",
                some.len(),
                self.problems.join("\n"),
            ))),
        }
    }
}

fn row(columns: [&str; 10]) -> String {
    let [situation, request, accepted, programmed, reason, rest @ ..] = columns;
    let [health, agree, disagreed, right, recovered] = rest;
    format!(
        "{situation:<52} {request:<10} {accepted:<8} {programmed:<10} {reason:<22} {health:<11} {agree:<8} \
         {disagreed:<9} {right:<11} {recovered}"
    )
}

fn seconds(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "-".to_owned(), |d| format!("{:.2} s", d.as_secs_f64()))
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(|e| Error::Other(format!("printing: {e}")))
}
