//! What is printed of a run: marks on the way, figures and the result at its end.

use alloc::format;

use tdx_module::platform::{IoExit, Register, SegmentName};

use tdx_defs::{VmIndex, tdg};
use tdx_module::{HardwareExit, Platform, Route, Vm};
use x86_defs::exit_reason;

use super::{End, Host};
use crate::arch::cpu::rdtsc;
use crate::console::say;
use crate::json::Object;
use crate::profile::{Samples, Summary};

/// The port whose bytes are marks; PCs show POST codes there.
const MARK_PORT: u16 = 0x80;

impl Host {
    /// What L2 writes to the mark port, if it does.
    pub(super) fn marked(&mut self, exit: &HardwareExit) -> Option<u8> {
        let &HardwareExit::Io(IoExit {
            port: MARK_PORT,
            input: false,
            ..
        }) = exit
        else {
            return None;
        };
        let l2 = Vm::L2(VmIndex::FIRST);
        Some(self.hardware.register(l2, Register::Rax) as u8)
    }

    /// Tells the devices of a mark, and prints the counters.
    pub(super) fn mark(&mut self, value: u8) {
        self.mark_devices(value);
        if !self.options.marks {
            return;
        }
        let longest = self.hardware.profile.take_longest_tpm_exit();
        let profile = &self.hardware.profile;
        let [.., rtmr3] = self.module.td_info().rtmr;
        let statistics = self.module.statistics();
        let entries = statistics.tdcalls_to(tdg::VP_ENTER);
        let tdvmcalls = statistics.tdvmcalls().values().sum();
        let timer_exits = [exit_reason::PREEMPTION_TIMER, exit_reason::WRMSR]
            .into_iter()
            .map(|reason| statistics.l2_exits_to(reason, Route::L1))
            .sum();
        let mark = Object::new()
            .number("mark", value.into())
            .number("tsc", rdtsc())
            .number("l2_exits", profile.l2_exits)
            .number("tpm_exits", profile.tpm_exit_count)
            .number("tdcalls", statistics.all_tdcalls())
            .number("entries", entries)
            .number("timer_exits", timer_exits)
            .number("tdvmcalls", tdvmcalls)
            .number("l1", profile.l1)
            .number("l2", profile.l2)
            .number("longest_tpm_exit", longest)
            .hex("rtmr3", &rtmr3);
        match self.devices.figures() {
            Some(figures) => mark.object("virtio", figures).print(),
            None => mark.print(),
        }
    }

    /// How often L1 has extended an RTMR.
    pub(super) fn rtmr_extends(&self) -> u64 {
        self.module.statistics().tdcalls_to(tdg::MR_RTMR_EXTEND)
    }

    /// How many L2 exits of a reason the host got.
    pub(super) fn host_routed(&self, reason: u32) -> u64 {
        self.module.statistics().l2_exits_to(reason, Route::Host)
    }

    /// Where a VM is, for messages.
    pub(super) fn where_is(&mut self, vm: u64) -> alloc::string::String {
        let vm = match VmIndex::new(vm as u8) {
            None => Vm::L1,
            Some(index) => Vm::L2(index),
        };
        let rip = self.hardware.register(vm, Register::Rip);
        let rsp = self.hardware.register(vm, Register::Rsp);
        let cr3 = self.hardware.register(vm, Register::Cr3);
        let cs = self.hardware.segment(vm, SegmentName::Cs);
        format!(
            " (RIP {rip:#x}, CS {:#x} base {:#x}, RSP {rsp:#x}, CR3 {cr3:#x})",
            cs.selector, cs.base
        )
    }

    /// Prints the figures and the result. Answers whether the run was a success.
    pub(crate) fn conclude(&mut self, end: &End) -> bool {
        self.ports.flush();
        self.print_statistics();
        self.print_processors();
        self.print_profile();
        self.print_report();
        if let Some(figures) = self.devices.figures() {
            Object::new().object("virtio", figures).print();
        }
        let shared = self.memory.shared_pieces();
        Object::new()
            .counts("shared_memory", shared.into_iter())
            .print();
        let (reason, ok) = match end {
            End::PowerOff => ("poweroff", true),
            End::Reboot => ("reboot", false),
            End::FatalError { .. } => ("fatal-error", false),
            End::VendorCall(_) => ("vendor-call", false),
            End::PowerCut => ("power-cut", false),
            End::Stuck(_) => ("stuck", false),
        };
        let result = Object::new()
            .text("reason", reason)
            .flag("ok", ok)
            .number("tsc", rdtsc());
        let result = match end {
            End::PowerOff | End::Reboot | End::VendorCall(_) | End::PowerCut => {
                say!("the TD ended: {reason}");
                result
            }
            End::FatalError { code, text } => result.number("code", *code).text("text", text),
            End::Stuck(text) => {
                say!("the run ends: {text}");
                result.text("text", text)
            }
        };
        Object::new().object("result", result).print();
        ok
    }

    fn print_statistics(&self) {
        let statistics = self.module.statistics();
        let route = |route: &Route| match route {
            Route::Module => "module",
            Route::L1 => "l1",
            Route::Host => "host",
        };
        let exits = statistics.l2_exits();
        let exits = exits
            .iter()
            .map(|((reason, to), &count)| (format!("{reason}:{}", route(to)), count));
        Object::new().counts("exits", exits).print();
        let counts = |map: &alloc::collections::BTreeMap<u64, u64>| {
            map.iter()
                .map(|(&key, &count)| (key, count))
                .collect::<alloc::vec::Vec<_>>()
        };
        Object::new()
            .counts("tdcalls", counts(&statistics.tdcalls()).into_iter())
            .print();
        Object::new()
            .counts("tdvmcalls", counts(statistics.tdvmcalls()).into_iter())
            .print();
        let td_exits = statistics.td_exits();
        Object::new()
            .counts(
                "td_exits",
                td_exits.iter().map(|(&key, &count)| (key, count)),
            )
            .print();
        let exceptions = statistics.virtualization_exceptions();
        Object::new()
            .counts("ve", exceptions.iter().map(|(&key, &count)| (key, count)))
            .print();
    }

    /// What each virtual processor did, if there are several.
    fn print_processors(&self) {
        let count = self.module.num_vcpus();
        if count < 2 {
            return;
        }
        let all = (0..count).fold(Object::new(), |all, index| {
            let did = self.module.vcpu_statistics(index);
            let figures = Object::new()
                .number("tdcalls", did.tdcalls)
                .number("l2_exits", did.l2_exits)
                .number("td_exits", did.td_exits);
            all.object(&format!("{index}"), figures)
        });
        Object::new().object("virtual_processors", all).print();
    }

    fn print_profile(&mut self) {
        let total = rdtsc();
        let profile = &mut self.hardware.profile;
        let figures = Object::new()
            .number("total", total)
            .number("l1", profile.l1)
            .number("l2", profile.l2)
            .number("idle", profile.idle)
            .number("entry_cost", profile.entry_cost())
            .number("l2_exits", profile.l2_exits)
            .number("tpm_exits", profile.tpm_exit_count)
            .object("l1_per_exit", samples(&mut profile.other_exits))
            .object("l1_per_tpm_exit", samples(&mut profile.tpm_exits))
            .object("tdcalls_per_tpm_exit", samples(&mut profile.tpm_tdcalls));
        Object::new().object("profile", figures).print();
    }

    fn print_report(&self) {
        let report = self.module.td_info();
        let [rtmr0, rtmr1, rtmr2, rtmr3] = &report.rtmr;
        let fields = Object::new()
            .hex("attributes", &report.attributes)
            .hex("xfam", &report.xfam)
            .hex("mrtd", &report.mrtd)
            .hex("mrconfigid", &report.mrconfigid)
            .hex("mrowner", &report.mrowner)
            .hex("mrownerconfig", &report.mrownerconfig)
            .hex("rtmr0", rtmr0)
            .hex("rtmr1", rtmr1)
            .hex("rtmr2", rtmr2)
            .hex("rtmr3", rtmr3)
            .hex("servtd_hash", &report.servtd_hash);
        Object::new().object("report", fields).print();
    }
}

fn samples(samples: &mut Samples) -> Object {
    let Summary {
        count,
        minimum,
        median,
        percentile90,
        maximum,
    } = samples.summary();
    let buckets = samples.histogram();
    let below = (0..).zip(buckets).filter(|&(_, count)| count != 0);
    Object::new()
        .number("count", count as u64)
        .number("min", minimum.into())
        .number("median", median.into())
        .number("p90", percentile90.into())
        .number("max", maximum.into())
        .counts(
            "below",
            below.map(|(bit, count)| (1_u64 << bit, u64::from(count))),
        )
}
