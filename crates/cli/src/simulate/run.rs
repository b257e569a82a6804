//! A run: the kubelet, the agent, the script and the pods, from the first moment to the last.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mizzen_kubelet_sim::{Config, Event, Happening, Kubelet};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, interval, sleep_until};

use super::agent_log;
use super::agent_process::{AgentCommand, AgentProcess, News, Stopped};
use super::configs;
use super::driver::Driver;
use super::observer::Observer;
use super::outcome::{StepFailed, judge};
use super::patience::Patience;
use super::picture::Outcome;
use super::plan::Plan;
use super::render;
use super::screen::Screen;
use super::script::{Action, Step};
use super::timeline::{Source, Tone};
use super::world::World;
use crate::duration;

/// How often time, memory and the simulated GPUs are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long the resources of a config are waited for that come after the first: the pods may ask
/// for any of them.
const ALL_RESOURCES: Duration = Duration::from_millis(50);

/// How long a stopped kubelet stays away: about what systemd takes to start it again.
const KUBELET_DOWN: Duration = Duration::from_millis(250);

/// A run that goes on.
#[derive(Debug)]
pub(crate) struct Run {
    plan: Plan,
    world: World,
    driver: Driver,
    kubelet: Kubelet,
    command: AgentCommand,
    agent: AgentProcess,
    log: File,
    observer: Observer,
    screen: Screen,
    patience: Patience,
    /// The beginning of the timeline: the agent's first start.
    began: Instant,
    /// When the present agent was started, while its first device list is awaited.
    awaited_since: Option<Instant>,
    /// When the pods are to be created.
    pods_due: Option<Instant>,
    pods_created: bool,
    /// The next of the plan's steps.
    next_step: usize,
}

impl Run {
    /// Prepares the machine, starts the kubelet and then the agent.
    pub(crate) async fn start(plan: Plan, screen: Screen) -> Result<Self> {
        let world = World::new(plan.dir.as_deref(), plan.keep)?;
        let driver = Driver::install(&world, &plan.scenario)?;
        let config = Config::new(world.kubelet());
        let node_name = config.node_name.clone();
        let kubelet = Kubelet::start(config)
            .await
            .with_context(|| format!("cannot serve in {}", world.kubelet().display()))?;
        let command = agent_command(&plan, &world, &driver, &kubelet)?;
        let log = File::create(world.agent_log()).context("cannot make the agent's log file")?;
        let observer = Observer::new(driver.first_picture(node_name)?);
        let agent = AgentProcess::start(&command)?;
        let began = Instant::from_std(agent.started());
        let mut run = Self {
            patience: Patience::new(plan.at_least),
            plan,
            world,
            driver,
            kubelet,
            command,
            agent,
            log,
            observer,
            screen,
            began,
            awaited_since: Some(began),
            pods_due: None,
            pods_created: false,
            next_step: 0,
        };
        run.observer.say(
            Duration::ZERO,
            Source::Kubelet,
            Tone::Neutral,
            "takes registrations",
        );
        run.observer.agent_started(Duration::ZERO, run.agent.pid());
        run.tell_how_to_join();
        Ok(run)
    }

    /// Goes on until everything is done or somebody interrupts, shows the end, and says how it
    /// went.
    pub(crate) async fn finish(mut self) -> Result<Outcome> {
        let outcome = match self.go_on().await {
            Ok(interrupted) => {
                let picture = self.observer.picture(self.began.elapsed());
                judge(&picture.pods, interrupted)
            }
            Err(error) => Outcome::broken(&error),
        };
        self.end_agent().await?;
        let picture = self.observer.picture(self.began.elapsed());
        picture.outcome = Some(outcome.clone());
        if let Some(file) = &self.plan.picture {
            std::fs::write(file, render::svg(&self.plan.command_line, picture))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        self.screen.finish(picture)?;
        if self.plan.keep || self.plan.dir.is_some() {
            eprintln!(
                "everything of this run is in {}",
                self.world.root().display()
            );
        }
        Ok(outcome)
    }

    /// The run itself; true if it was interrupted.
    async fn go_on(&mut self) -> Result<bool> {
        let mut events = self.kubelet.events();
        let mut snapshots = self.kubelet.snapshots();
        let mut interrupts = Interrupts::new()?;
        let mut ticks = interval(TICK);
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            // What led to this snapshot is told before the run is judged by it.
            while let Ok(event) = events.try_recv() {
                self.heard(event);
            }
            let steps_left = self.next_step < self.plan.steps.len();
            self.observer.snapshot(&snapshot, &self.plan.pods);
            let picture = self.observer.picture(self.began.elapsed());
            self.screen.update(picture)?;
            if self.patience.is_over(picture, steps_left)? {
                return Ok(false);
            }
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.heard(event),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => bail!("the embedded kubelet has gone"),
                },
                changed = snapshots.changed() => changed.context("the embedded kubelet has gone")?,
                news = self.agent.next() => self.agent_did(news?)?,
                step = Self::next(self.began, &self.plan.steps[self.next_step..]) => {
                    self.next_step += 1;
                    self.perform(&step).await?;
                }
                _ = ticks.tick() => self.look(),
                () = Self::moment(self.pods_due) => self.create_pods(),
                () = interrupts.next() => return Ok(true),
            }
        }
    }

    /// Waits for the first of the steps that are left; for ever if none is.
    async fn next(began: Instant, steps: &[Step]) -> Step {
        match steps.first() {
            Some(step) => {
                sleep_until(began + step.at).await;
                step.clone()
            }
            None => std::future::pending().await,
        }
    }

    /// Waits for a moment, for ever if there is none.
    async fn moment(due: Option<Instant>) {
        match due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Looks at what changes by itself: the agent's process, and the GPUs, which somebody may
    /// drive from another terminal.
    fn look(&mut self) {
        if let Ok(figures) = self.agent.figures() {
            self.observer.agent_figures(figures);
        }
        self.look_at_gpus(self.began.elapsed());
    }

    fn look_at_gpus(&mut self, at: Duration) {
        if let Ok(gpus) = self.driver.gpus() {
            self.observer.gpus(at, gpus, &self.kubelet.snapshot());
        }
    }

    /// Takes an event of the kubelet, whose clock began before ours.
    fn heard(&mut self, mut event: Event) {
        let ahead = self.began.saturating_duration_since(self.kubelet.began());
        event.at = event.at.saturating_sub(ahead);
        self.patience.something_happened(self.began.elapsed());
        if let Happening::PluginRegistered { .. } | Happening::DevicesReported { .. } = &event.what
        {
            // The agent may have seen before us that a GPU is partitioned anew.
            self.look_at_gpus(event.at);
        }
        self.observer.event(&event, &self.kubelet.snapshot());
        if let (Happening::DevicesReported { .. }, Some(since)) = (&event.what, self.awaited_since)
        {
            self.awaited_since = None;
            let took = event
                .at
                .saturating_sub(since.saturating_duration_since(self.began));
            self.observer.agent_ready(event.at, took);
            self.agent_is_ready();
        }
    }

    /// Does what had to wait for the agent.
    fn agent_is_ready(&mut self) {
        if self.plan.configs.first().is_none() {
            self.create_pods();
        } else if !self.pods_created {
            self.pods_due = Some(Instant::now() + ALL_RESOURCES);
        }
    }

    /// Hands the pods to the API server, once there are devices.
    fn create_pods(&mut self) {
        self.pods_due = None;
        if std::mem::replace(&mut self.pods_created, true) {
            return;
        }
        for submitted in &mut self.plan.pods {
            if let Err(refusal) = self.kubelet.create(submitted.pod.clone()) {
                let message = format!("{} refused: {refusal}", submitted.pod.metadata.name);
                self.observer
                    .say(self.began.elapsed(), Source::Pod, Tone::Bad, message);
                submitted.refusal = Some(refusal.to_string());
            }
        }
    }

    fn agent_did(&mut self, news: News) -> Result<()> {
        match news {
            News::Line(line) => {
                self.note(&line)?;
                Ok(())
            }
            News::Ended(status) => bail!("the agent ended by itself: {status}"),
        }
    }

    /// Keeps a line of the agent's log, and shows it if it is for people.
    fn note(&mut self, line: &str) -> Result<()> {
        writeln!(self.log, "{line}").context("cannot write the agent's log")?;
        if let Some((tone, words)) = agent_log::for_people(line) {
            self.observer
                .say(self.began.elapsed(), Source::Log, tone, words);
        }
        Ok(())
    }

    /// Does what a step says.
    async fn perform(&mut self, step: &Step) -> Result<()> {
        let now = self.began.elapsed();
        self.observer
            .say(now, Source::Script, Tone::Neutral, step.action.to_string());
        match &step.action {
            Action::RestartKubelet => self.kubelet.restart(KUBELET_DOWN).await?,
            Action::RestartAgent => {
                self.agent.kill().await?;
                self.agent = AgentProcess::start(&self.command)?;
                let started = Instant::from_std(self.agent.started());
                self.awaited_since = Some(started);
                self.observer
                    .agent_started(started - self.began, self.agent.pid());
            }
            Action::Config(file) => {
                let text = self.plan.configs.later(file)?;
                // The agent watches the file.
                configs::replace(&self.world.agent_config(), text)?;
            }
            action => {
                self.observer.caused(now, action);
                self.driver
                    .perform(action)
                    .with_context(|| StepFailed(action.clone()))?;
                self.look();
            }
        }
        self.patience
            .step_was_done(self.began.elapsed(), &step.action);
        Ok(())
    }

    /// Ends the agent as the kubelet would end its pod.
    async fn end_agent(&mut self) -> Result<()> {
        if self.agent.has_ended() {
            return Ok(());
        }
        let stopped = self.agent.stop().await?;
        let (tone, message) = match stopped {
            Stopped::Itself { status, after } if status.success() => (
                Tone::Good,
                format!("ended {} after SIGTERM", duration::short(after)),
            ),
            Stopped::Itself { status, .. } => (Tone::Bad, format!("ended after SIGTERM: {status}")),
            Stopped::Killed => (
                Tone::Bad,
                "did not end after SIGTERM and was killed".to_owned(),
            ),
        };
        while let News::Line(line) = self.agent.next().await? {
            self.note(&line)?;
        }
        self.observer
            .say(self.began.elapsed(), Source::Agent, tone, message);
        Ok(())
    }

    /// Says how `mizzen sim` joins in, where a run is long enough for it.
    fn tell_how_to_join(&mut self) {
        if self.plan.at_least.is_none() {
            return;
        }
        let variables = self.world.sim_environment();
        let assignments: Vec<_> = variables
            .iter()
            .take(2)
            .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
            .collect();
        let message = format!("join in: {} mizzen sim status", assignments.join(" "));
        self.observer
            .say(Duration::ZERO, Source::Script, Tone::Neutral, message);
    }
}

/// The agent with its config file, if the run has one. What the file sets is not outranked by
/// the patience that suits a run of seconds.
fn agent_command(
    plan: &Plan,
    world: &World,
    driver: &Driver,
    kubelet: &Kubelet,
) -> Result<AgentCommand> {
    let mut flags = Vec::new();
    if let Some(text) = plan.configs.first() {
        configs::replace(&world.agent_config(), text)?;
        flags.extend(["--config-file".into(), world.agent_config().into()]);
    }
    flags.extend_from_slice(&plan.agent_flags);
    let socket = kubelet.registration_socket();
    let mut command = world.agent_command(driver.library(), &socket, &flags)?;
    let environment = &mut command.environment;
    environment.retain(|(variable, _)| !plan.configs.set(variable));
    Ok(command)
}

/// The signals that ask for an end.
#[derive(Debug)]
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
