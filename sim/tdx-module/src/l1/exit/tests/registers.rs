//! CPUID, MSRs and control registers.

use super::*;

#[test]
fn cpuid_leaves_are_the_modules_or_the_hosts() {
    let machine = Machine::new();
    let everything = CpuidResult {
        eax: !0,
        ebx: !0,
        ecx: !0,
        edx: !0,
    };
    machine.act(|_, platform| {
        for leaf in [0, 1, 7, 0xa, 0xd, 0x12, 0x15, 0x8000_0001, 0x8000_0008] {
            platform.cpuid.insert((leaf, 0), everything);
        }
    });
    let cpuid = |leaf: u32, subleaf: u32| {
        machine.set(Register::Rax, leaf.into());
        machine.set(Register::Rcx, subleaf.into());
        let event = machine.run(&[0x0f, 0xa2], HardwareExit::Cpuid);
        machine.ve_info();
        event.is_none().then(|| {
            [Register::Rax, Register::Rbx, Register::Rcx, Register::Rdx]
                .map(|register| machine.get(register) as u32)
        })
    };
    for (leaf, subleaf) in [
        (2, 0),
        (5, 0),
        (6, 0),
        (0xb, 0),
        (0x16, 0),
        (0x1f, 0),
        (0x21, 1),
        (0x8000_0002, 0),
        (0x4000_0000, 0),
        (0x4fff_ffff, 0),
    ] {
        assert_eq!(cpuid(leaf, subleaf), None, "{leaf:#x}");
    }
    let genuine_intel = [0x23, 0x756e_6547, 0x6c65_746e, 0x4965_6e69];
    assert_eq!(cpuid(0, 0), Some(genuine_intel));
    assert_eq!(
        cpuid(0x21, 0),
        Some([0, 0x6574_6e49, 0x2020_2020, 0x5844_546c])
    );
    assert_eq!(cpuid(0x15, 0), Some([1, 40, 25_000_000, 0]));
    assert_eq!(cpuid(0xa, 0), Some([0; 4]));
    assert_eq!(cpuid(0x12, 0), Some([0; 4]));
    let [_, ebx, ecx, _] = cpuid(1, 0).unwrap();
    const MONITOR_VMX_SMX_OSXSAVE: u32 = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 27;
    const X2APIC_HYPERVISOR: u32 = 1 << 21 | 1 << 31;
    assert_eq!(ecx & MONITOR_VMX_SMX_OSXSAVE, 0);
    assert_eq!(ecx & X2APIC_HYPERVISOR, X2APIC_HYPERVISOR);
    assert_eq!(ebx >> 24, 0);
    // XFAM has x87, SSE and AVX.
    let [_, ebx, _, _] = cpuid(7, 0).unwrap();
    assert_eq!((ebx & 1 << 5, ebx & 1 << 16, ebx & 1 << 2), (1 << 5, 0, 0));
    assert_eq!(cpuid(0xd, 0).unwrap()[0], 7);
    // SVM is in leaf 80000001 of the machine.
    assert_eq!(cpuid(0x8000_0001, 0).unwrap()[2] & 1 << 2, 0);
    // OSXSAVE follows CR4.
    machine.set(Register::Cr4, 0x4_0660);
    assert_ne!(cpuid(1, 0).unwrap()[2] & 1 << 27, 0);
    // Above the range: as its end.
    assert_eq!(cpuid(0x24, 0), cpuid(0x23, 0));
    assert_eq!(cpuid(0x8000_0009, 0), cpuid(0x23, 0));
}

/// What L1 sees of a processor whose CPUID has every bit set, by XFAM: x87 and SSE; AVX; AVX-512;
/// and PT, PKRU, CET, ULI, LBR and AMX as well (TDX Module ABI, "CPUID Virtualization").
#[test]
fn cpuid_shows_what_the_module_lets_through() {
    const NONE: [u32; 4] = [0; 4];
    const ALL: [u32; 4] = [!0; 4];
    const SSE: u64 = 0x3;
    const AVX: u64 = 0x7;
    const AVX_512: u64 = 0xe7;
    const EVERYTHING: u64 = 0x6_dbe7;
    let of_any = [
        (0x0, 0, [0x23, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        (0x4, 1, ALL),
        (0x7, 2, [0, 0, 0, 0x3f]),
        (0x8, 0, NONE),
        (0xe, 0, NONE),
        (0x11, 0, NONE),
        (0x13, 0, NONE),
        (0x15, 0, [1, 40, 25_000_000, 0]),
        (0x19, 0, NONE),
        (0x20, 0, NONE),
        (0x21, 0, [0, 0x6574_6e49, 0x2020_2020, 0x5844_546c]),
        (0x22, 0, NONE),
        (0x23, 0, NONE),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 0x121, 0x2c10_0800]),
        (0x8000_0007, 0, [0, 0, 0, 0x100]),
        (0x8000_0008, 0, [0xffff, 0x200, 0, 0]),
    ];
    let of_one = [
        (
            SSE,
            0x1,
            0,
            [0x0fff_3fff, 0x1_0800, 0xc7fb_2207, 0x078b_fbff],
        ),
        (
            AVX,
            0x1,
            0,
            [0x0fff_3fff, 0x1_0800, 0xf7fb_3207, 0x078b_fbff],
        ),
        (SSE, 0x7, 0, [2, 0x219c_27c9, 0x9b41_0105, 0xfc0d_6630]),
        (AVX, 0x7, 0, [2, 0x219c_27e9, 0x9b41_0705, 0xfc0d_6630]),
        (AVX_512, 0x7, 0, [2, 0xfdbf_27e9, 0x9b41_5f47, 0xfc8d_673c]),
        (
            EVERYTHING,
            0x7,
            0,
            [2, 0xfdbf_27e9, 0x9b41_5fcf, 0xffdd_673c],
        ),
        (AVX, 0x7, 1, [0x0488_1dd0, 0, 0, 0x2_0430]),
        (AVX_512, 0x7, 1, [0x0488_1df0, 0, 0, 0x2_0430]),
        (SSE, 0xd, 0, [0x3, !0, !0, 0]),
        (EVERYTHING, 0xd, 0, [0x6_dbe7, !0, !0, 0]),
        (SSE, 0xd, 1, [0x1f, !0, 0, 0]),
        (EVERYTHING, 0xd, 1, [0x1f, !0, 0xd900, 0]),
        (EVERYTHING, 0x14, 0, ALL),
        (EVERYTHING, 0x14, 1, ALL),
        (EVERYTHING, 0x1c, 0, ALL),
        (EVERYTHING, 0x1d, 1, ALL),
        (EVERYTHING, 0x1e, 0, ALL),
        (AVX_512, 0x14, 0, NONE),
        (AVX_512, 0x1c, 0, NONE),
        (AVX_512, 0x1d, 1, NONE),
        (AVX_512, 0x1e, 0, NONE),
    ];
    let of_components = [SSE, AVX, AVX_512, EVERYTHING]
        .into_iter()
        .flat_map(|xfam| {
            (2..19).map(move |component| {
                let shown = xfam >> component & 1 != 0;
                (xfam, 0xd, component, if shown { ALL } else { NONE })
            })
        });
    let everything = CpuidResult {
        eax: !0,
        ebx: !0,
        ecx: !0,
        edx: !0,
    };
    let of_any = [SSE, AVX, AVX_512, EVERYTHING]
        .into_iter()
        .flat_map(|xfam| of_any.map(|(leaf, subleaf, shown)| (xfam, leaf, subleaf, shown)));
    for (xfam, leaf, subleaf, shown) in of_any.chain(of_one).chain(of_components) {
        let params = TdParams {
            xfam,
            ..TdParams::default()
        };
        let machine = Machine::with_params(&params);
        machine.act(|_, platform| platform.cpuid.insert((leaf, subleaf), everything));
        machine.set(Register::Rax, leaf.into());
        machine.set(Register::Rcx, subleaf.into());
        assert_eq!(machine.run(&[0x0f, 0xa2], HardwareExit::Cpuid), None);
        let found = [Register::Rax, Register::Rbx, Register::Rcx, Register::Rdx]
            .map(|register| machine.get(register) as u32);
        assert_eq!(found, shown, "{leaf:#x}.{subleaf} with XFAM {xfam:#x}");
    }
}

/// What the module says whatever the processor has, and what follows CR4 and the code's width.
#[test]
fn cpuid_bits_that_are_not_the_processors() {
    const OSXSAVE: u64 = 1 << 18;
    const PKE: u64 = 1 << 22;
    let machine = Machine::new();
    let cpuid = |leaf: u32, cr4: u64| {
        machine.set(Register::Cr4, 0x660 | cr4);
        machine.set(Register::Rax, leaf.into());
        machine.set(Register::Rcx, 0);
        assert_eq!(machine.run(&[0x0f, 0xa2], HardwareExit::Cpuid), None);
        [Register::Rax, Register::Rbx, Register::Rcx, Register::Rdx]
            .map(|register| machine.get(register) as u32)
    };
    // x2APIC, TSC deadline and the hypervisor; APIC.
    assert_eq!(cpuid(1, 0), [0, 0x1_0800, 0x8120_0000, 1 << 9]);
    assert_eq!(cpuid(1, OSXSAVE), [0, 0x1_0800, 0x8920_0000, 1 << 9]);
    assert_eq!(cpuid(7, 0), [2, 0, 0, 0]);
    assert_eq!(cpuid(7, PKE), [2, 0, 1 << 4, 0]);
    assert_eq!(cpuid(0x8000_0001, 0), [0, 0, 0, 1 << 11]);
    // SYSCALL is of 64-bit code.
    machine.act(|_, platform| {
        let mut cs = platform.segment(Vm::L1, SegmentName::Cs);
        cs.access_rights = 0xc09b;
        platform.set_segment(Vm::L1, SegmentName::Cs, cs);
    });
    assert_eq!(cpuid(0x8000_0001, 0), [0; 4]);
}

/// TDG.VP.CPUIDVE.SET turns every CPUID into a #VE, CPUID_CONTROL one leaf; bit 0 at CPL 0, bit 1
/// above (TDX Module Base Architecture, "CPUID Virtualization").
#[test]
fn cpuid_is_a_ve_where_l1_asked_for_it() {
    use tdx_defs::Registers;
    use tdx_defs::field::FieldId;
    use tdx_defs::tdg;

    let machine = Machine::new();
    let call = |registers: Registers| assert_eq!(machine.0.call(registers).unwrap().rax, 0);
    let gets_ve = |cpl: u64, leaf: u64| {
        machine.set(Register::Cpl, cpl);
        machine.set(Register::Rax, leaf);
        machine.set(Register::Rcx, 0);
        let event = machine.run(&[0x0f, 0xa2], HardwareExit::Cpuid);
        machine.set(Register::Cpl, 0);
        let reason = machine.ve_info().map(|info| info.exit_reason);
        assert_eq!(event, reason.map(|_| Event::VIRTUALIZATION));
        assert!(matches!(reason, None | Some(10)));
        event.is_some()
    };
    for bits in [0, 1, 2, 3, 0] {
        call(Registers {
            rax: tdg::VP_CPUIDVE_SET,
            rcx: bits,
            ..Registers::default()
        });
        for cpl in 0..4 {
            let asked = bits & if cpl == 0 { 1 } else { 2 } != 0;
            assert_eq!(gets_ve(cpl, 0), asked, "{bits} at CPL {cpl}");
        }
    }
    // Row 0 of CPUID_CONTROL is leaf 0.
    for bits in [0, 1, 2, 3, 0] {
        call(Registers {
            rax: tdg::VP_WR,
            rdx: FieldId::cpuid_control(0).0,
            r8: bits,
            r9: 3,
            ..Registers::default()
        });
        for cpl in 0..4 {
            let asked = bits & if cpl == 0 { 1 } else { 2 } != 0;
            assert_eq!(gets_ve(cpl, 0), asked, "leaf 0, {bits} at CPL {cpl}");
            assert!(!gets_ve(cpl, 1), "leaf 1 is not asked for");
        }
    }
}

#[test]
fn msrs_are_native_emulated_refused_or_the_hosts() {
    let machine = Machine::new();
    let read = |msr: u32| {
        machine.set(Register::Rcx, msr.into());
        let event = machine.run(&[0x0f, 0x32], HardwareExit::ReadMsr);
        machine.ve_info();
        match event {
            None => Ok(machine.get(Register::Rdx) << 32 | machine.get(Register::Rax)),
            Some(event) => Err(event),
        }
    };
    let write = |msr: u32, value: u64| {
        machine.set(Register::Rcx, msr.into());
        machine.set(Register::Rax, value & 0xffff_ffff);
        machine.set(Register::Rdx, value >> 32);
        let event = machine.run(&[0x0f, 0x30], HardwareExit::WriteMsr);
        machine.ve_info();
        event
    };
    let gp = Err(Event::GENERAL_PROTECTION);
    let ve = Err(Event::VIRTUALIZATION);
    // APIC_BASE, an MTRR, TSC_DEADLINE, the x2APIC's LVT timer, one outside both ranges.
    for msr in [0x1b, 0x200, 0x6e0, 0x832, 0x4b56_4d00] {
        assert_eq!(read(msr), ve, "{msr:#x}");
        assert_eq!(write(msr, 0), VE, "{msr:#x}");
    }
    for msr in [0x9b, 0x122, 0x6e1, 0x80e, 0x83f, 0x6a2, 0xc1] {
        assert_eq!(read(msr), gp, "{msr:#x}");
    }
    for msr in [0x480, 0x492, 0x802 - 1, 0x810, 0x820, 0x345] {
        assert_eq!(write(msr, 0), GP, "{msr:#x}");
    }
    assert_eq!(read(0x481), ve);
    assert_eq!(read(0x345), Ok(0));
    for msr in [0x48, 0xc000_0082, 0xc000_0100, 0xc000_0102] {
        assert_eq!(write(msr, 0x1234_5678_0000), None, "{msr:#x}");
        assert_eq!(read(msr), Ok(0x1234_5678_0000), "{msr:#x}");
    }
    // PAT: memory types, none of them reserved.
    let types = 0x0706_0504_0100_0706;
    assert_eq!(write(0x277, types), None);
    for reserved in [2, 3, 8] {
        assert_eq!(write(0x277, types & !0xff | reserved), GP);
        assert_eq!(write(0x277, types & !(0xff << 56) | reserved << 56), GP);
    }
    assert_eq!(read(0x277), Ok(types));
    // EFER: SCE is L1's, everything else the host's.
    assert_eq!(read(0xc000_0080), Ok(0xd01));
    assert_eq!(write(0xc000_0080, 0xd00), None);
    for value in [0x501, 0xc01, 0x1d01, 0x901, 0] {
        assert_eq!(write(0xc000_0080, value), VE, "{value:#x}");
    }
    assert_eq!(read(0xc000_0080), Ok(0xd00));
    // CSTAR and the gaps between registers of a feature are not in the module's table.
    for msr in [0xc000_0083, 0x562, 0x6a1, 0x6a3, 0xd91, 0x1300] {
        assert_eq!(read(msr), ve, "{msr:#x}");
        assert_eq!(write(msr, 0), VE, "{msr:#x}");
    }
    // XSS: nothing that XFAM does not have.
    assert_eq!(write(0xda0, 0), None);
    assert_eq!(write(0xda0, 0x1800), GP);
    // The x2APIC registers of the virtual APIC.
    assert_eq!(write(0x808, 0x100), GP);
    assert_eq!(write(0x808, 0x20), None);
    assert_eq!((read(0x808), read(0x80a)), (Ok(0x20), Ok(0x20)));
    assert_eq!(write(0x83f, 0x31), None);
    assert_eq!(read(0x821), Ok(1 << 17));
    assert_eq!(write(0x80b, 1), GP);
    assert_eq!(write(0x80b, 0), None);
}

#[test]
fn native_msrs_do_not_exit() {
    let machine = Machine::new();
    machine.act(|_, platform| {
        for msr in [
            0x48,
            0x49,
            0x174,
            0x277,
            0xc000_0081,
            0xc000_0101,
            0xc000_0103,
        ] {
            assert_eq!(
                platform.msr_intercepts[&(Vm::L1, msr)],
                (false, false),
                "{msr:#x}"
            );
        }
        assert_eq!(platform.msr_intercepts[&(Vm::L1, 0x10)], (false, true));
        for msr in [0x1b, 0x6e0, 0x808, 0x80b, 0xc000_0080] {
            assert!(
                !platform.msr_intercepts.contains_key(&(Vm::L1, msr)),
                "{msr:#x}"
            );
        }
    });
}

#[test]
fn control_registers_keep_what_is_the_modules() {
    let machine = Machine::new();
    const CR0: u64 = 0x8001_0033;
    let mov_cr0_rax = [0x0f, 0x22, 0xc0];
    let mov_cr4_rbx = [0x0f, 0x22, 0xe3];
    for (value, event) in [
        (CR0 | 8, None),
        (CR0 & !0x20, GP),
        (CR0 | 1 << 32, GP),
        (CR0 & !1, GP),
        (CR0 | 1 << 29, GP),
        (CR0 | 1 << 30, VE),
        (CR0 & !(1 << 31), GP),
    ] {
        machine.set(Register::Cr0, CR0);
        machine.set(Register::Rax, value);
        let got = machine.run(&mov_cr0_rax, HardwareExit::CrAccess);
        assert_eq!(got, event, "{value:#x}");
        let kept = if event.is_none() { value } else { CR0 };
        assert_eq!(machine.get(Register::Cr0), kept);
        machine.ve_info();
    }
    for (value, event) in [
        (0x6e0, None),
        (0x620, VE),
        (0x2660, VE),
        (0x640, GP),
        (0x1660, GP),
        (0x40_0660, GP),
        (1 << 60, GP),
    ] {
        machine.set(Register::Cr4, 0x660);
        machine.set(Register::Rbx, value);
        let got = machine.run(&mov_cr4_rbx, HardwareExit::CrAccess);
        assert_eq!(got, event, "{value:#x}");
        if got == VE {
            let info = machine.ve_info().unwrap();
            assert_eq!((info.exit_reason, info.qualification), (28, 0x304));
        }
    }
    // LMSW AX writes MP, EM and TS, and sets PE, which it can not clear.
    for (value, cr0) in [
        (0x0, 0x8001_0031),
        (0x1, 0x8001_0031),
        (0xf, 0x8001_003f),
        (0xfff0, 0x8001_0031),
        (0x2, CR0),
    ] {
        machine.set(Register::Cr0, CR0);
        machine.set(Register::Rax, value);
        let lmsw = [0x0f, 0x01, 0xf0];
        assert_eq!(machine.run(&lmsw, HardwareExit::CrAccess), None);
        assert_eq!(machine.get(Register::Cr0), cr0, "{value:#x}");
    }
    machine.set(Register::Cr0, CR0 | 8);
    assert_eq!(machine.run(&[0x0f, 0x06], HardwareExit::CrAccess), None);
    assert_eq!(machine.get(Register::Cr0), CR0);
}

#[test]
fn paging_in_long_mode_begins_with_cr0() {
    let machine = Machine::new();
    machine.act(|_, platform| {
        let mut code = platform.segment(Vm::L1, SegmentName::Cs);
        code.access_rights = 0xc09b;
        platform.set_segment(Vm::L1, SegmentName::Cs, code);
    });
    machine.set(Register::Cr0, 0x23);
    machine.set(Register::Efer, 0x901);
    machine.set(Register::Rax, 0x8000_0023);
    assert_eq!(
        machine.run(&[0x0f, 0x22, 0xc0], HardwareExit::CrAccess),
        None
    );
    assert_eq!(machine.get(Register::Efer), 0xd01);
}

#[test]
fn xcr0_is_within_xfam() {
    let machine = Machine::new();
    let xsetbv = |ecx: u64, value: u64| {
        machine.set(Register::Rcx, ecx);
        machine.set(Register::Rax, value);
        machine.set(Register::Rdx, 0);
        machine.run(&[0x0f, 0x01, 0xd1], HardwareExit::Xsetbv)
    };
    assert_eq!(xsetbv(0, 7), Some(Event::INVALID_OPCODE));
    machine.set(Register::Cr4, 0x4_0660);
    assert_eq!(xsetbv(0, 7), None);
    assert_eq!(machine.get(Register::Xcr0), 7);
    for (ecx, value) in [(1, 7), (0, 6), (0, 0xe7)] {
        assert_eq!(xsetbv(ecx, value), GP);
    }
}
