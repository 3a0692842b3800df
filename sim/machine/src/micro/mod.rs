//! Micro-guests: TDs of a few instructions that test the TDX module on the machine it runs on.
//!
//! * [`firmware`]: the code of every test's L1, an interpreter of [`script`] steps.
//! * [`guest`]: the TD around it, laid out as [`layout`] says.
//! * [`l2`]: programs for L2.
//! * the rest: the tests, by subject.

mod calls;
mod exits;
mod firmware;
mod guest;
mod interrupts;
mod l2;
mod layout;
mod leaves;
mod locks;
mod memory_conversion;
mod processors;
mod quotes;
mod real_mode;
mod record;
mod script;
mod state;
mod virtio;
mod virtualization;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::console::say;
use crate::hardware::Hardware;
use crate::host::memory::Frames;
use crate::host::{End, FwCfg, Host};
use crate::json::Object;
use crate::options::{Fault, Options, Quote};
use crate::pack::Pack;
use l2::Program;
use script::Step;

/// Milliseconds of virtual time without progress that end a test.
const LIMIT: u64 = 200;

/// What a test's steps may depend on.
#[derive(Clone, Copy, Debug)]
struct Setup {
    shared_bit: u64,
}

/// A test's steps, made for a setup.
type Steps = Box<dyn Fn(&Setup) -> Vec<Step>>;

/// How a test's run is to end.
type Ending = fn(&End) -> bool;

/// One test: a TD, its L1's steps, perhaps an L2.
struct Test {
    name: &'static str,
    steps: Steps,
    /// Of the virtual processors behind number 0.
    others: Vec<Steps>,
    program: Option<Program>,
    faults: Vec<Fault>,
    quote: Quote,
    fw_cfg_files: Vec<(String, String)>,
    /// Changes the options further.
    options: Box<dyn Fn(&mut Options)>,
    ending: Ending,
}

impl Test {
    fn new(name: &'static str, steps: impl Fn(&Setup) -> Vec<Step> + 'static) -> Self {
        Self {
            name,
            steps: Box::new(steps),
            others: Vec::new(),
            program: None,
            faults: Vec::new(),
            quote: Quote::Ok,
            fw_cfg_files: Vec::new(),
            options: Box::new(|_| {}),
            ending: |end| *end == End::VendorCall(layout::DONE),
        }
    }

    /// With one more virtual processor, which has these steps.
    fn and_processor(mut self, steps: impl Fn(&Setup) -> Vec<Step> + 'static) -> Self {
        self.others.push(Box::new(steps));
        self
    }

    /// With a program for L2.
    fn with_l2(mut self, program: Program) -> Self {
        self.program = Some(program);
        self
    }

    /// With a fault of the host or the module.
    fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// With a host that makes this of GetQuote.
    fn with_quote(mut self, quote: Quote) -> Self {
        self.quote = quote;
        self
    }

    /// With a file of fw_cfg.
    fn with_fw_cfg_file(mut self, name: &str, content: &str) -> Self {
        self.fw_cfg_files.push((name.into(), content.into()));
        self
    }

    /// With further options.
    fn with_options(mut self, options: impl Fn(&mut Options) + 'static) -> Self {
        self.options = Box::new(options);
        self
    }

    /// The run does not get to the last step, but ends otherwise.
    fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }
}

/// Runs the tests whose names begin so, or with `all` every one. Answers whether they passed.
pub(crate) fn run(name: &str, options: &Options, frames: Frames, hardware: Hardware) -> bool {
    let mut hardware = Some(hardware);
    let (mut passed, mut failed) = (0, 0);
    let tests = [
        leaves::tests(),
        virtualization::tests(),
        memory_conversion::tests(),
        calls::tests(),
        quotes::tests(),
        interrupts::tests(),
        processors::tests(),
        locks::tests(),
        exits::tests(),
        real_mode::tests(),
        state::tests(),
        virtio::tests(),
        virtio::tests_of_qemu(options),
    ];
    for test in tests.into_iter().flatten() {
        if name != "all" && !test.name.starts_with(name) {
            continue;
        }
        let machine = match hardware.take() {
            Some(machine) => machine,
            None => Hardware::start(options.gpaw.shared_bit(), options.cpuid),
        };
        let outcome = run_one(&test, options, frames.clone(), machine);
        let line = Object::new()
            .text("test", test.name)
            .flag("ok", outcome.is_ok());
        match outcome {
            Ok(()) => {
                passed += 1;
                say!("{}: ok", test.name);
                line.print();
            }
            Err(text) => {
                failed += 1;
                say!("{}: FAILED: {text}", test.name);
                line.text("text", &text).print();
            }
        }
    }
    let ok = failed == 0 && passed > 0;
    let result = Object::new()
        .text("reason", "tests")
        .flag("ok", ok)
        .number("passed", passed)
        .number("failed", failed);
    Object::new().object("result", result).print();
    ok
}

fn run_one(
    test: &Test,
    options: &Options,
    frames: Frames,
    hardware: Hardware,
) -> Result<(), String> {
    let mut options = options.clone();
    options.memory = layout::RAM_SIZE;
    options.watchdog = LIMIT;
    options.quote = test.quote;
    options.fw_cfg_files.clone_from(&test.fw_cfg_files);
    (test.options)(&mut options);
    options.faults.extend(test.faults.iter().cloned());
    let setup = Setup {
        shared_bit: options.gpaw.shared_bit(),
    };
    options.vcpus += test.others.len() as u16;
    guest::prepare(setup.shared_bit);
    if let Some(program) = test.program {
        l2::load(program);
    }
    let scripts: Vec<_> = core::iter::once(&test.steps)
        .chain(&test.others)
        .map(|steps| steps(&setup))
        .collect();
    for (processor, steps) in (0..).zip(&scripts) {
        script::write(processor, steps);
    }
    let fw_cfg = FwCfg::new(&Pack::EMPTY, &options);
    let schedule = options.schedule;
    let mut host = Host::new(options, fw_cfg, frames, hardware)?;
    guest::build(&mut host)?;
    let end = host.run();
    let check = || {
        (0..)
            .zip(&scripts)
            .try_for_each(|(processor, steps)| script::check(processor, steps))
    };
    if !(test.ending)(&end) {
        return Err(format!(
            "it ended with {end:?}; {:?}; {schedule:?}",
            check()
        ));
    }
    match end {
        End::VendorCall(_) => check().map_err(|text| format!("{text}; {schedule:?}")),
        _ => Ok(()),
    }
}
