//! What L1 shows before there is a vTPM: an honest launch, and each lie about one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use evidence::{Boot, Launched, NOW, committed_collateral};
use tdx_module::TdParams;
use verifier::{Id, LaunchEvidence, Policy, Report, Verdict, verify_launch};

const REPORT_DATA: [u8; 64] = [7; 64];
const INIT_DATA: [u8; 48] = [9; 48];

fn boot() -> Boot {
    Boot {
        td: TdParams {
            mrconfigid: INIT_DATA,
            ..TdParams::default()
        },
        ..Boot::default()
    }
}

/// What is said of a launch, and what it is judged by.
struct Shown {
    quote: Vec<u8>,
    log: Vec<u8>,
    report_data: [u8; 64],
    init_data: [u8; 48],
    policy: Policy,
}

impl Shown {
    fn of(boot: &Boot, act: impl FnOnce(&mut Launched)) -> Shown {
        let mut launched = boot.launch();
        act(&mut launched);
        Shown {
            quote: launched.quote(&REPORT_DATA),
            log: launched.log(),
            report_data: REPORT_DATA,
            init_data: INIT_DATA,
            policy: boot.policy(),
        }
    }

    fn verify(&self) -> Report {
        let launch = LaunchEvidence {
            quote: &self.quote,
            cc_event_log: &self.log,
            report_data: self.report_data,
            init_data: self.init_data,
        };
        verify_launch(&launch, &self.policy, &committed_collateral(), NOW)
    }

    fn first_failure(&self) -> Option<Id> {
        self.verify().first_failure().map(|check| check.id)
    }
}

#[test]
fn an_honest_launch_is_checked() {
    let shown = Shown::of(&boot(), |_| {});
    let report = shown.verify();
    assert_eq!(report.verdict(), Verdict::Checked, "{report:#?}");
    assert_eq!(report.checks.len(), 24);
}

#[test]
fn each_lie_about_a_launch_fails_its_check() {
    let honest = || Shown::of(&boot(), |_| {});
    let lies: [(Id, Shown); 8] = [
        (
            Id::ReportData,
            Shown {
                report_data: [8; 64],
                ..honest()
            },
        ),
        (
            Id::TdConfig,
            Shown {
                init_data: [8; 48],
                ..honest()
            },
        ),
        (
            Id::CcLogFormat,
            Shown {
                log: Vec::new(),
                ..honest()
            },
        ),
        (
            Id::QuoteFormat,
            Shown {
                quote: Vec::new(),
                ..honest()
            },
        ),
        (Id::JournalFormat, {
            // The log says nothing of it: RTMR3 is not what the log gives, so that the journal is not looked at.
            let shown = Shown::of(&boot(), Launched::begin_journal);
            assert_eq!(shown.first_failure(), Some(Id::Rtmr3));
            let started = boot().evidence().bundle;
            let quote = started.td_quote.unwrap().0;
            let mut report_data = [0; 64];
            report_data.copy_from_slice(&quote[48 + 520..48 + 584]);
            Shown {
                quote,
                log: started.cc_event_log.0,
                report_data,
                ..honest()
            }
        }),
        (
            Id::LaunchKernel,
            Shown {
                policy: Boot {
                    kernel: evidence::bz_image(b"another"),
                    ..boot()
                }
                .policy(),
                ..honest()
            },
        ),
        (
            Id::LaunchCommandLine,
            Shown {
                policy: Boot {
                    command_line: "other".into(),
                    ..boot()
                }
                .policy(),
                ..honest()
            },
        ),
        (
            Id::Mrtd,
            Shown {
                policy: Boot {
                    firmware: evidence::FirmwareImage::with_l1(b"another"),
                    ..boot()
                }
                .policy(),
                ..honest()
            },
        ),
    ];
    for (check, shown) in lies {
        assert_eq!(shown.first_failure(), Some(check), "{:#?}", shown.verify());
    }
}

#[test]
fn a_debug_td_is_refused_whatever_the_policy_says() {
    let debug = Boot {
        td: TdParams {
            attributes: boot().td.attributes | 1,
            ..boot().td
        },
        ..boot()
    };
    let mut shown = Shown::of(&debug, |_| {});
    shown.policy.td.debug = true;
    let report = shown.verify();
    assert!(report.failures().any(|id| id == Id::TdDebug), "{report:#?}");
}

#[test]
fn the_policys_own_configuration_counts_as_well() {
    let mut shown = Shown::of(&boot(), |_| {});
    shown.policy.td.mrconfigid = verifier::policy::Allowed::OneOf(vec![[8; 48]]);
    assert_eq!(shown.first_failure(), Some(Id::TdConfig));
    shown.policy.td.mrconfigid = verifier::policy::Allowed::Any;
    assert_eq!(shown.verify().verdict(), Verdict::Checked);
}
