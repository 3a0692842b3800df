use super::*;
use l2_exit::run_ahead::RunAhead;
use tdx_module::platform::IoExit;

/// MOV EAX, [RBX].
const LOAD: [u8; 2] = [0x8B, 0x03];
/// MOV [RBX], AL.
pub(super) const STORE: [u8; 2] = [0x88, 0x03];

pub(super) fn fault(gpa: u64, write: bool) -> HardwareExit {
    HardwareExit::NestedPageFault {
        gpa,
        write,
        fetch: false,
        page_walk: false,
    }
}

#[test]
fn a_tpm_access_costs_one_tdcall_once_it_is_known() {
    let mut fixture = Fixture::new(&LOAD);
    let registers = [(Register::Rbx, TPM + 0x18), (Register::Rip, UPPER + CODE)];
    for _ in 0..2 {
        fixture
            .exit_with(&registers, fault(TPM + 0x18, false))
            .unwrap();
    }
    let before = fixture.tdcalls();
    for _ in 0..100 {
        fixture
            .exit_with(&registers, fault(TPM + 0x18, false))
            .unwrap();
        assert_eq!(fixture.rip(), 2);
    }
    assert_eq!(fixture.tdcalls() - before, 100);
    assert_eq!(fixture.platform.statistics().tpm_accesses, 102);
    assert_eq!(fixture.register(Register::Rax), 0xA5A5_A5A5);
}

/// Three accesses of which the first exits: MOV EAX, [RBX], NOP, MOV CL, [RBX + 6], MOV [RBX], AL, HLT.
const ACCESSES: [u8; 9] = [0x8B, 0x03, 0x90, 0x8A, 0x4B, 0x06, 0x88, 0x03, 0xF4];

#[test]
fn l1_runs_ahead_from_one_tpm_access_to_the_next() {
    let registers = [(Register::Rbx, TPM + 0x18), (Register::Rip, UPPER + CODE)];
    let mut fixture = Fixture::new(&ACCESSES);
    fixture.platform.vcpu.ahead = Some(RunAhead::new(0));
    fixture
        .exit_with(&registers, fault(TPM + 0x18, false))
        .unwrap();
    assert_eq!(fixture.rip(), 8);
    assert_eq!(fixture.platform.statistics().tpm_accesses, 3);
    assert_eq!(fixture.platform.statistics().ahead.accesses, 2);
    assert_eq!(fixture.seen.borrow().tpm[2], (0x18, [0xA5].to_vec(), true));
    // A breakpoint is the processor's to find.
    let armed = [&registers[..], &[(Register::Dr7, 0x401)]].concat();
    fixture.exit_with(&armed, fault(TPM + 0x18, false)).unwrap();
    assert_eq!(fixture.rip(), 2);
}

#[test]
fn a_tpm_write_arrives_with_its_offset_and_width() {
    let mut fixture = Fixture::new(&STORE);
    let registers = [(Register::Rbx, TPM + 0x4024), (Register::Rax, 0x77)];
    fixture
        .exit_with(&registers, fault(TPM + 0x4024, true))
        .unwrap();
    assert_eq!(fixture.seen.borrow().tpm, [(0x4024, [0x77].to_vec(), true)]);
}

#[test]
fn l1s_memory_is_never_shown() {
    for (code, write) in [(&LOAD, false), (&STORE, true)] {
        let mut fixture = Fixture::new(code);
        let gpa = L1_START + 0x123;
        let end = fixture
            .exit_with(&[(Register::Rbx, gpa)], fault(gpa, write))
            .unwrap_err();
        let error = GuestError::L1Memory {
            gpa,
            write,
            fetch: false,
        };
        assert_eq!(
            end,
            End::GuestError {
                rip: UPPER + CODE,
                error
            }
        );
    }
}

#[test]
fn l2_memory_without_a_mapping_is_reported() {
    let mut fixture = Fixture::new(&LOAD);
    let end = fixture
        .exit_with(&[(Register::Rbx, 0x1000)], fault(0x1000, false))
        .unwrap_err();
    let error = GuestError::LostMemory {
        gpa: 0x1000,
        pending: false,
    };
    assert_eq!(
        end,
        End::GuestError {
            rip: UPPER + CODE,
            error
        }
    );
}

#[test]
fn code_is_for_the_host_of_a_debug_td_only() {
    // MOVAPS XMM0, [RBX].
    let mut fixture = Fixture::new(&[0x0F, 0x28, 0x03]);
    let end = fixture
        .exit_with(&[(Register::Rbx, TPM)], fault(TPM, false))
        .unwrap_err();
    assert_eq!(
        alloc::format!("{end}"),
        "L2 at 0xffffff8000020000: the instruction at 0xffffff8000020000 cannot be emulated"
    );
    let debug = TdAttributes::new().with_debug(true);
    let report = alloc::format!("{}", fixture.platform.snapshot(debug).unwrap());
    assert!(report.contains(" instruction 0f2803"), "{report}");
}

#[test]
fn console_bytes_go_to_the_host() {
    let mut fixture = Fixture::new(&[0xEE]);
    let io = IoExit {
        port: 0x3F8,
        width: 1,
        input: false,
        string: false,
        repeat: false,
    };
    let registers = [(Register::Rax, u64::from(b'!')), (Register::Rdx, 0x3F8)];
    fixture.exit_with(&registers, HardwareExit::Io(io)).unwrap();
    assert_eq!(fixture.seen.borrow().ports, [(0x3F8, b'!')]);
}

#[test]
fn console_input_is_fetched_when_the_host_interrupts() {
    let mut fixture = Fixture::new(&[0xEC]);
    {
        let mut seen = fixture.seen.borrow_mut();
        seen.answers = [(0x3FD, 0x61), (0x3F8, b'q'), (0x3FD, 0x60)].to_vec();
        seen.interrupts.push_back(Interrupts {
            timer: false,
            console: true,
            devices: false,
        });
    }
    fixture.exit(HardwareExit::Interrupt).unwrap();
    let io = IoExit {
        port: 0x3F8,
        width: 1,
        input: true,
        string: false,
        repeat: false,
    };
    fixture
        .exit_with(&[(Register::Rdx, 0x3F8)], HardwareExit::Io(io))
        .unwrap();
    assert_eq!(fixture.register(Register::Rax) & 0xFF, u64::from(b'q'));
}

#[test]
fn the_clock_is_the_hosts() {
    let mut fixture = Fixture::new(&[0xEE, 0xEC]);
    fixture.seen.borrow_mut().answers.push((0x71, 0x42));
    let out = IoExit {
        port: 0x70,
        width: 1,
        input: false,
        string: false,
        repeat: false,
    };
    let registers = [(Register::Rax, 0x04), (Register::Rdx, 0x70)];
    fixture
        .exit_with(&registers, HardwareExit::Io(out))
        .unwrap();
    let input = IoExit {
        port: 0x71,
        input: true,
        ..out
    };
    fixture
        .exit_with(&[(Register::Rdx, 0x71)], HardwareExit::Io(input))
        .unwrap();
    assert_eq!(fixture.register(Register::Rax) & 0xFF, 0x42);
    assert_eq!(fixture.seen.borrow().ports, [(0x70, 0x04)]);
}

#[test]
fn post_codes_cost_the_host_nothing() {
    let mut fixture = Fixture::new(&[0xE6, 0x80]);
    let io = IoExit {
        port: 0x80,
        width: 1,
        input: false,
        string: false,
        repeat: false,
    };
    let before = fixture.tdcalls();
    fixture.exit(HardwareExit::Io(io)).unwrap();
    assert!(fixture.seen.borrow().ports.is_empty());
    assert!(fixture.tdcalls() > before);
}
