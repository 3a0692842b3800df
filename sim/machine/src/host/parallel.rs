//! The TD's virtual processors as the host runs them where each has a processor of the machine's ([`crate::hardware::runners`]):
//! all at once, and what comes of their exits one after another.

use super::virtual_processors::Inside;
use super::{End, Host};

impl Host {
    /// Runs the TD to its end.
    pub(super) fn run_in_parallel(&mut self) -> End {
        loop {
            if let Err(end) = self.go_round() {
                return end;
            }
        }
    }

    /// Takes back what has ended, and lets run what can; waits if there is neither.
    fn go_round(&mut self) -> Result<(), End> {
        self.wake();
        let (mut idle, mut out) = (true, false);
        for index in 0..self.processors.count() {
            let vcpu = index as u32;
            let ready = match self.hardware.is_out(vcpu) {
                true => self.hardware.take_back(vcpu),
                false => self.processors.is_ready(index),
            };
            if ready {
                idle = false;
                self.take_up(index)?;
                self.enter_and_serve()?;
            }
            out |= self.hardware.is_out(vcpu);
        }
        match (idle, out) {
            (true, false) => self.wait()?,
            (true, true) => {
                self.hardware.wait();
                self.poll()?;
            }
            (false, _) => {
                self.hardware.take_pending();
                self.poll()?;
            }
        }
        self.hardware.call_expired();
        Ok(())
    }

    /// A runner has the virtual processor that was taken up.
    pub(super) fn ran_out(&mut self, vm: tdx_module::Vm) {
        self.processors.set_inside(Inside::Running(vm));
    }
}
