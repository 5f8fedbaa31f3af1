//! `testbed faults`: requests of the operator go wrong, one at a time, over the whole life of an exposure, and
//! the end has to be the same.
//!
//! First the life is lived without a fault, some times, to know what every step ends in and how often each
//! object is written. Then each plan spoils one step. Steps with and without a fault follow each other in one
//! namespace until something is not as it should be; the rest goes on in a new one.

mod case;
mod explore;
mod identity;
mod life;
mod operator;
mod oracle;
mod plan;
mod recorded;
mod rows;
mod state;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use kthena_bridge_api::child::ChildKind;
use serde_json::json;
use testbed::{Error, Options, Result, TestBed, built_binaries};

use case::{Case, Patience};
use explore::Walk;
use life::{LIFE, Step};
use oracle::excess;
use plan::Plan;
use recorded::{Settled, said};
use rows::{Ends, Place, Row};
use state::State;

/// How often the life is lived without a fault.
const REFERENCES: usize = 3;
/// Where it is found out what is to be expected.
const AT_FIRST: Patience = Patience {
    quiet: Duration::from_millis(1500),
    limit: Duration::from_secs(40),
};
/// In a step without a fault.
const WITHOUT_FAULT: Patience = Patience {
    quiet: Duration::from_millis(300),
    ..AT_FIRST
};
/// In a step with one: the longest delay between two attempts is a minute, give or take a fifth.
const WITH_FAULT: Patience = Patience {
    limit: Duration::from_secs(77),
    ..WITHOUT_FAULT
};
/// After a row. Kubernetes' own controllers, which make the pods of a picker and remove what belongs to a ModelExposure,
/// take a minute or more to come back when the API server was away: client-go waits up to 30 s, and up to twice as long by
/// chance. <https://github.com/kubernetes/client-go/blob/v0.36.3/tools/cache/reflector.go>
const AFTER_A_ROW: Patience = Patience {
    limit: Duration::from_mins(3),
    ..AT_FIRST
};
/// In a walk: a Model that was replaced has the pods of the former one for a while, which come to their end when
/// nobody does anything any more.
const WALKING: Patience = Patience {
    quiet: Duration::from_secs(3),
    ..WITH_FAULT
};
/// What took longer is told as if it had failed.
const SLOW: Duration = Duration::from_secs(20);
/// How long nothing is written at the very end.
const REST: Duration = Duration::from_mins(1);

/// What is carried out.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the plans whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// How many plans are carried out at a time.
    #[arg(long, default_value_t = 6)]
    together: usize,
    /// How many plans, the same in every run; all when it is 0.
    #[arg(long, default_value_t = 0)]
    sample: usize,
    /// How many walks that are drawn by a seed follow.
    #[arg(long, default_value_t = 30)]
    walks: u64,
    /// The seed of the first walk; those of the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The binary of another version, that takes turns with this one.
    #[arg(long)]
    other: Option<PathBuf>,
}

/// What a step ends in, and what it takes.
struct Expected {
    state: State,
    /// The most that each object was written.
    writes: BTreeMap<String, u32>,
    /// The least requests to write.
    requests: u32,
}

/// What became of the plans.
#[derive(Default)]
struct Tally {
    plans: u32,
    walks: u32,
    converged: u32,
    unreached: u32,
    violations: Vec<String>,
    slowest: Duration,
    /// How many operators were looked at for a minute in which nothing happened, and did nothing.
    quiet: u32,
}

impl Tally {
    /// Prints it, and fails where something went wrong. Where not `all` plans were asked for, maybe none leaves an
    /// operator that could be looked at.
    fn tell(self, took: Duration, all: bool) -> Result<()> {
        let Self {
            plans,
            walks,
            converged,
            unreached,
            violations,
            slowest,
            quiet,
        } = self;
        let result = json!({
            "plans": plans,
            "walks": walks,
            "converged": converged,
            "violations": violations.len(),
            "unreached": unreached,
            "slowest_recovery_ms": u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX),
            "quiet_minutes": quiet,
            "seconds": took.as_secs(),
        });
        writeln!(std::io::stdout(), "{result}")
            .map_err(|e| Error::Other(format!("printing: {e}")))?;
        let restless = quiet == 0 && all;
        if !violations.is_empty() || plans + walks == 0 || restless {
            // Once more what was said above: of a long output, the end is what is read.
            return Err(Error::Other(format!(
                "{} violations in {plans} plans, and {quiet} operators that were looked at for a quiet minute\n{}",
                violations.len(),
                violations.join("\n")
            )));
        }
        Ok(())
    }
}

/// Carries out the plans, and then takes the walks.
pub(crate) async fn run(options: &Arguments) -> Result<()> {
    let (only, sample) = (options.only.as_str(), options.sample);
    let bed = TestBed::start(Options {
        ready_pods: true,
        ..Options::default()
    })?;
    bed.install_own_crds().await?;
    let binary = built_binaries()?.join("kthena-bridge");
    eprintln!(
        "the bed is up after {:.1?}; living {REFERENCES} times without a fault",
        bed.took()
    );
    let (expected, watched) = reference(&bed, &binary).await?;
    let mut plans = Vec::new();
    for (step, expected) in &expected {
        eprintln!(
            "{:<12} {:>2} writes: {}",
            step.as_str(),
            expected.requests,
            expected.state.outline()
        );
        plans.extend(plan::crash_points(*step, expected.requests));
    }
    plans.extend(plan::refusals());
    plans.extend(plan::watches(&watched));
    plans.extend(plan::lists(&watched));
    plans.retain(|plan| plan.to_string().contains(only));
    let Some(served) = expected.get(&Step::Create) else {
        return Err(Error::Other("nothing is known of create".to_owned()));
    };
    let kinds = ChildKind::ALL.into_iter();
    // llm-d's are called the same, and not installed.
    let kinds = kinds.filter(|kind| served.state.has(*kind) && kind.group() != "llm-d.ai");
    let mut rows = Row::all(&kinds.collect::<Vec<_>>(), options.other.is_some());
    rows.retain(|row| row.name().contains(only));
    // Whoever wants a sample wants it soon.
    rows.retain(|row| sample == 0 || row.place() == Place::Shared);
    let all = plans.len() + rows.len();
    let names = plans.iter().map(ToString::to_string);
    let names = names.chain(rows.iter().map(|row| row.name()));
    let drawn = drawn(names, sample);
    plans.retain(|plan| drawn.contains(&plan.to_string()));
    rows.retain(|row| drawn.contains(&row.name()));
    let began = Instant::now();
    eprintln!("{} of {all} plans", plans.len() + rows.len());
    let mut queues: BTreeMap<Step, VecDeque<Plan>> = BTreeMap::new();
    for plan in plans {
        queues.entry(plan.step).or_default().push_back(plan);
    }
    let watched: Vec<String> = watched.into_iter().collect();
    let seeds = options.seed..options.seed.saturating_add(options.walks);
    let drawn = seeds.map(|seed| (format!("seed {seed}"), Walk::of(seed, &watched)));
    let known = Walk::known().into_iter();
    let known = known.filter(|(name, _)| name.contains(only));
    let walks = known
        .map(|(name, walk)| (name.to_owned(), walk))
        .chain(drawn);
    let run = Run {
        bed: &bed,
        binary: &binary,
        expected: &expected,
        ends: Ends {
            states: expected
                .iter()
                .map(|(step, expected)| (*step, expected.state.clone()))
                .collect(),
            other: options.other.clone(),
        },
        queues: RefCell::new(queues),
        rows: RefCell::new(rows.into()),
        walks: RefCell::new(walks.collect()),
        tally: RefCell::default(),
    };
    join_all((0..options.together).map(|_| run.work())).await;
    run.work_alone().await;
    run.tally
        .into_inner()
        .tell(began.elapsed(), only.is_empty())
}

/// So many of the names, or all for 0. Which ones are drawn does not depend on the others: how many writes a step
/// takes, and so how many plans there are, differs a little between runs.
fn drawn(names: impl Iterator<Item = String>, sample: usize) -> BTreeSet<String> {
    let hashed = names.map(|name| {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        (hasher.finish(), name)
    });
    let hashed: BTreeMap<u64, String> = hashed.collect();
    let most = if sample == 0 { hashed.len() } else { sample };
    hashed.into_values().take(most).collect()
}

/// Lives without a fault, and tells what each step ends in. All lives have to end in the same.
async fn reference(
    bed: &TestBed,
    binary: &Path,
) -> Result<(BTreeMap<Step, Expected>, BTreeSet<String>)> {
    let lives = (0..REFERENCES).map(async |_| {
        let case = Case::start(bed, binary, &[]).await?;
        let mut steps = Vec::new();
        for step in LIFE {
            let settled = case.step(step, None, None, AT_FIRST).await;
            let settled = settled.map_err(|problem| {
                Error::Other(format!(
                    "without a fault, {}: {problem}\n{}",
                    step.as_str(),
                    story(&case)
                ))
            })?;
            steps.push((step, settled));
        }
        Ok::<_, Error>((steps, case.watched))
    });
    let mut expected: BTreeMap<Step, Expected> = BTreeMap::new();
    let (lives, mut watched): (Vec<_>, Vec<_>) = try_join_all(lives).await?.into_iter().unzip();
    for (step, settled) in lives.into_iter().flatten() {
        let Settled {
            state,
            writes,
            requests,
            ..
        } = settled;
        let Some(known) = expected.get_mut(&step) else {
            expected.insert(
                step,
                Expected {
                    state,
                    writes,
                    requests,
                },
            );
            continue;
        };
        let differences = state.differences(&known.state);
        if !differences.is_empty() {
            let step = step.as_str();
            return Err(Error::Other(format!(
                "without a fault, {step} ends differently each time: {differences}"
            )));
        }
        known.requests = known.requests.min(requests);
        for (object, times) in writes {
            let most = known.writes.entry(object).or_default();
            *most = times.max(*most);
        }
    }
    Ok((expected, watched.pop().unwrap_or_default()))
}

/// The plans that are left, and what became of the others.
struct Run<'a> {
    bed: &'a TestBed,
    binary: &'a Path,
    expected: &'a BTreeMap<Step, Expected>,
    ends: Ends,
    queues: RefCell<BTreeMap<Step, VecDeque<Plan>>>,
    rows: RefCell<VecDeque<Row>>,
    /// The walks that are to come, each with what it is called.
    walks: RefCell<VecDeque<(String, Walk)>>,
    tally: RefCell<Tally>,
}

impl Run<'_> {
    fn is_over(&self) -> bool {
        let alone = |row: &Row| row.place() == Place::Alone;
        let rows_are_over = self.rows.borrow().iter().all(alone);
        self.walks.borrow().is_empty() && rows_are_over && self.plans_are_over()
    }

    fn plans_are_over(&self) -> bool {
        self.queues.borrow().values().all(VecDeque::is_empty)
    }

    /// The next row that may be carried out there.
    fn next(&self, place: Place) -> Option<Row> {
        let mut rows = self.rows.borrow_mut();
        let at = rows.iter().position(|row| row.place() == place)?;
        rows.remove(at)
    }

    fn violation(&self, what: &str, case: Option<&Case<'_>>) {
        self.tally.borrow_mut().violations.push(what.to_owned());
        println(&format!("{what:<40} VIOLATION"));
        if let Some(case) = case {
            eprintln!("{what}\n{}", story(case));
        }
    }

    async fn start(&self, arguments: &[&str]) -> Option<Case<'_>> {
        match Case::start(self.bed, self.binary, arguments).await {
            Ok(case) => Some(case),
            Err(error) => {
                self.violation(&format!("no case can be started: {error}"), None);
                None
            }
        }
    }

    /// Lives on as long as there are plans, and then looks whether it is quiet.
    async fn work(&self) {
        while !self.is_over() {
            if let Some(row) = self.next(Place::Apart) {
                if let Some(case) = self.suffer_apart(row).await {
                    self.rest(&case, AT_FIRST).await;
                }
                continue;
            }
            let Some(mut case) = self.start(&[]).await else {
                return;
            };
            let mut well = true;
            while well && !self.is_over() {
                well = if let Some(row) = self.next(Place::Shared) {
                    self.suffer(&mut case, row).await
                } else if self.plans_are_over() {
                    self.walk(&mut case).await
                } else {
                    self.live(&case).await
                };
            }
            if well {
                self.rest(&case, AT_FIRST).await;
            }
        }
    }

    /// Lives once, each step with a plan if there is one left for it; whether all went well.
    async fn live(&self, case: &Case<'_>) -> bool {
        for (step, wanted) in self.expected_in_order() {
            let plan = self
                .queues
                .borrow_mut()
                .get_mut(&step)
                .and_then(VecDeque::pop_front);
            let patience = if plan.is_some() {
                WITH_FAULT
            } else {
                WITHOUT_FAULT
            };
            let settled = case
                .step(step, plan.as_ref(), Some(&wanted.state), patience)
                .await;
            let mut problem = match &settled {
                Ok(settled) => excess(settled, wanted, plan.as_ref()),
                Err(problem) => problem.clone(),
            };
            problem.push_str(&case.meddled().await.unwrap_or_else(|e| e.to_string()));
            let name = plan.as_ref().map_or_else(
                || format!("{}: without a fault", step.as_str()),
                ToString::to_string,
            );
            let faulty = plan.is_some();
            self.tally.borrow_mut().plans += u32::from(faulty);
            match settled {
                Ok(settled) if problem.is_empty() => {
                    if faulty {
                        self.went_well(&name, &settled);
                    }
                    if settled.took > SLOW {
                        eprintln!("{name} took {:.1?}\n{}", settled.took, story(case));
                    }
                }
                _ => {
                    self.violation(&format!("{name}: {problem}"), Some(case));
                    return false;
                }
            }
        }
        true
    }

    /// Carries out what needs the whole bed, one after the other, and then looks whether all of them are quiet.
    async fn work_alone(&self) {
        let mut cases = Vec::new();
        while let Some(row) = self.next(Place::Alone) {
            cases.extend(self.suffer_apart(row).await);
        }
        join_all(cases.iter().map(|case| self.rest(case, AFTER_A_ROW))).await;
    }

    /// Carries out a row in a case of its own, and gives that back where all went well.
    async fn suffer_apart(&self, row: Row) -> Option<Case<'_>> {
        let mut case = self.start(row.arguments()).await?;
        self.suffer(&mut case, row).await.then_some(case)
    }

    /// Carries out a row; whether that went well, and the case can go on.
    async fn suffer(&self, case: &mut Case<'_>, row: Row) -> bool {
        let carried_out = row.carry_out(case, &self.ends).await;
        let meddled = if row.ends_the_namespace() {
            String::new()
        } else {
            case.meddled().await.unwrap_or_else(|e| e.to_string())
        };
        self.tally.borrow_mut().plans += 1;
        let name = row.name();
        let problem = match carried_out {
            Ok(settled) if meddled.is_empty() => {
                self.went_well(&name, &settled);
                return row.leaves_the_model();
            }
            Ok(_) => meddled,
            Err(problem) => problem + &meddled,
        };
        self.violation(&format!("{name}: {problem}"), Some(case));
        false
    }

    /// Takes the next walk; whether that went well.
    async fn walk(&self, case: &mut Case<'_>) -> bool {
        let Some((name, walk)) = self.walks.borrow_mut().pop_front() else {
            return true;
        };
        let mut problem = match case.add(&explore::MODELS).await {
            Ok(()) => explore::walk(case, &walk, WALKING)
                .await
                .err()
                .unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        problem.push_str(&case.meddled().await.unwrap_or_else(|e| e.to_string()));
        self.tally.borrow_mut().walks += 1;
        if problem.is_empty() {
            println(&format!("{name}: ok"));
            return true;
        }
        self.violation(&format!("{name}: {problem}; {walk:?}"), Some(case));
        false
    }

    fn expected_in_order(&self) -> impl Iterator<Item = (Step, &Expected)> {
        LIFE.into_iter()
            .filter_map(|step| Some((step, self.expected.get(&step)?)))
    }

    fn went_well(&self, name: &str, settled: &Settled) {
        let mut tally = self.tally.borrow_mut();
        tally.converged += 1;
        tally.unreached += u32::from(settled.fired == 0);
        tally.slowest = tally.slowest.max(settled.took);
        let how = if settled.fired > 0 {
            "ok"
        } else {
            "ok, but the fault was not reached"
        };
        println(&format!(
            "{name:<56} {how}, {:.2?}, {} writes",
            settled.took, settled.requests
        ));
    }

    /// Whether nothing is written while an exposure is served and nothing happens.
    async fn rest(&self, case: &Case<'_>, patience: Patience) {
        let Some(wanted) = self.expected.get(&Step::Create) else {
            return;
        };
        let created = case
            .step(Step::Create, None, Some(&wanted.state), patience)
            .await;
        if let Err(problem) = created {
            return self.violation(&format!("create, at the end: {problem}"), Some(case));
        }
        let asked = case.restless(REST).await;
        if !asked.is_empty() {
            return self.violation(&format!("not quiet for {REST:?}: {asked}"), Some(case));
        }
        self.tally.borrow_mut().quiet += 1;
    }
}

/// The end of what the operator sent and said.
fn story(case: &Case<'_>) -> String {
    let proxy = &case.operator.proxy;
    let seen = proxy.seen(proxy.count().saturating_sub(60));
    let seen = seen.iter().map(|seen| {
        let refused = seen.refused.as_deref().unwrap_or_default();
        let ago = seen.at.elapsed().as_millis();
        let said = said(seen);
        format!(
            "  -{ago} ms {} {:?} {:?} {said}{refused}\n",
            seen.request, seen.code, seen.action
        )
    });
    let log = std::fs::read_to_string(&case.operator.log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let end = lines[lines.len().saturating_sub(40)..].join("\n  ");
    format!("  requests:\n{}  log:\n  {end}", seen.collect::<String>())
}

fn println(line: &str) {
    // Where nobody reads, nothing is lost: the result is an exit code, too.
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_does_not_depend_on_what_is_not() {
        let names = |to: u32| (0..to).map(|n| format!("create: killed before write {n}"));
        let few = drawn(names(1000), 30);
        assert_eq!(few.len(), 30);
        let more = drawn(names(1003), 30);
        assert!(few.difference(&more).count() <= 3);
        assert_eq!(drawn(names(1000), 0).len(), 1000);
    }
}
