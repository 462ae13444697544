//! Virtual time: it stands still until a test advances it.

/// The clock of one proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Nanoseconds since the proxy started; never goes back.
    elapsed_ns: u64,
    /// What the wall clock showed when `elapsed_ns` was zero, in nanoseconds since 1970.
    epoch_ns: u64,
}

impl Clock {
    pub(crate) fn starting_at(wall_ns: u64) -> Self {
        Self { elapsed_ns: 0, epoch_ns: wall_ns }
    }

    /// Nanoseconds since the proxy started.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns
    }

    /// Nanoseconds since 1970.
    pub(crate) fn wall_ns(&self) -> u64 {
        self.epoch_ns.wrapping_add(self.elapsed_ns)
    }

    /// Moves time forward to `elapsed_ns`; an earlier moment changes nothing.
    pub(crate) fn advance_to(&mut self, elapsed_ns: u64) {
        self.elapsed_ns = self.elapsed_ns.max(elapsed_ns);
    }

    /// Sets the wall clock, as an administrator or NTP does. Timers are not affected.
    pub(crate) fn set_wall(&mut self, wall_ns: u64) {
        self.epoch_ns = wall_ns.wrapping_sub(self.elapsed_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_wall_clock_leaves_the_timers_alone() {
        let mut clock = Clock::starting_at(1_000);
        clock.advance_to(50);
        clock.set_wall(500);
        assert_eq!((clock.elapsed_ns(), clock.wall_ns()), (50, 500));
        clock.advance_to(60);
        assert_eq!((clock.elapsed_ns(), clock.wall_ns()), (60, 510));
    }

    #[test]
    fn time_does_not_go_back() {
        let mut clock = Clock::starting_at(0);
        clock.advance_to(10);
        clock.advance_to(5);
        assert_eq!(clock.elapsed_ns(), 10);
    }
}
