//! Whether the machine is too short of memory or processors for another browser.

use std::time::Duration;

use browserfleet_common::{lifecycle::Tasks, size::Size};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::cgroup::{Limits, Usage};
use crate::pool::model::Pressure;

/// From one sample to the next.
const SAMPLE: Duration = Duration::from_secs(1);
/// How far below its threshold a value must fall before the pressure is over, in percent: without the gap the pool would
/// start a browser, feel the pressure of it, wait, and start again.
const GAP: u64 = 5;

/// When the machine is too short.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Percent of the memory that may be in use, of the control group's or the machine's. 100 is never too much.
    pub max_memory: u64,
    /// Percent of the time in which some task may wait for a processor. 100 is never too much.
    pub max_cpu: u64,
}

/// Samples from now on, until nobody watches any more.
pub fn watch(config: Config, tasks: &Tasks) -> watch::Receiver<Pressure> {
    let (sender, receiver) = watch::channel(Pressure::default());
    tasks.spawn("host.pressure", async move {
        tokio::select! {
            () = sender.closed() => {}
            () = sample(config, &sender) => {}
        }
    });
    receiver
}

async fn sample(config: Config, sender: &watch::Sender<Pressure>) {
    let mut judge = Judge::new(config);
    let limits = Limits::of_this_process();
    let mut ticks = interval(SAMPLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Read in place: these files are the kernel's own counts, no disk is behind them, and a thread for blocking work
        // that is needed every second would never end.
        let pressure = judge.on(limits.memory(), limits.cpu_pressure());
        sender.send_if_modified(|published| {
            let changed = *published != pressure;
            if changed {
                *published = pressure;
            }
            changed
        });
    }
}

/// The decision: which values are too much.
#[derive(Clone, Debug)]
pub struct Judge {
    memory: Threshold,
    cpu: Threshold,
}

impl Judge {
    pub fn new(config: Config) -> Self {
        Self { memory: Threshold::new(config.max_memory), cpu: Threshold::new(config.max_cpu) }
    }

    /// Takes a sample; what could not be read is no pressure.
    pub fn on(&mut self, memory: Option<Usage>, cpu: Option<f64>) -> Pressure {
        let memory = memory.filter(|memory| self.memory.exceeded(memory.percent()));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=100 before")]
        let cpu = cpu.map(|percent| percent.clamp(0.0, 100.0).round() as u64);
        let cpu = cpu.filter(|percent| self.cpu.exceeded(*percent));
        Pressure {
            memory: memory.map(|memory| format!("memory: {} % of {} are in use", memory.percent(), Size(memory.limit))),
            cpu: cpu.map(|percent| format!("processors: tasks waited for one in {percent} % of the last seconds")),
        }
    }
}

/// A limit in percent that, once exceeded, stays so until the value is well below it.
#[derive(Clone, Debug)]
struct Threshold {
    most: u64,
    exceeded: bool,
}

impl Threshold {
    fn new(most: u64) -> Self {
        Self { most, exceeded: false }
    }

    fn exceeded(&mut self, percent: u64) -> bool {
        // 100 turns it off: memory in use may well be all there is.
        self.exceeded = self.most < 100 && if self.exceeded { percent + GAP > self.most } else { percent > self.most };
        self.exceeded
    }
}

#[cfg(test)]
mod tests {
    use browserfleet_common::size::GIB;

    use super::*;

    fn memory(percent: u64) -> Usage {
        Usage { used: percent * GIB, limit: 100 * GIB }
    }

    #[test]
    fn what_is_short_is_said_with_figures() {
        let mut judge = Judge::new(Config { max_memory: 90, max_cpu: 80 });
        assert_eq!(judge.on(Some(memory(90)), Some(80.4)), Pressure::default());
        let pressure = judge.on(Some(memory(93)), Some(80.6));
        assert_eq!(pressure.memory.as_deref(), Some("memory: 93 % of 100 GiB are in use"));
        let cpu = "processors: tasks waited for one in 81 % of the last seconds";
        assert_eq!(pressure.cpu.as_deref(), Some(cpu));
    }

    #[test]
    fn pressure_is_over_only_well_below_the_threshold() {
        let mut judge = Judge::new(Config { max_memory: 90, max_cpu: 100 });
        let mut short = |percent| judge.on(Some(memory(percent)), None).memory.is_some();
        let values = [90, 91, 90, 86, 85, 90, 91];
        assert_eq!(values.map(&mut short), [false, true, true, true, false, false, true]);
    }

    #[test]
    fn a_hundred_percent_and_unreadable_values_are_no_pressure() {
        let mut off = Judge::new(Config { max_memory: 100, max_cpu: 100 });
        assert_eq!(off.on(Some(memory(120)), Some(100.0)), Pressure::default());
        let mut judge = Judge::new(Config { max_memory: 50, max_cpu: 50 });
        assert_eq!(judge.on(None, None), Pressure::default());
    }

    #[tokio::test]
    async fn a_sample_is_published_and_the_task_ends_with_its_last_watcher() {
        let tasks = Tasks::new();
        let mut pressure = watch(Config { max_memory: 0, max_cpu: 100 }, &tasks);
        pressure.wait_for(|pressure| pressure.memory.is_some()).await.unwrap();
        assert_eq!(tasks.running(), 1);
        drop(pressure);
        assert_eq!(tasks.join(Duration::from_secs(10)).await, 0);
    }
}
