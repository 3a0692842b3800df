//! Nothing that L2 can put into registers, memory or page tables panics or runs on.

use proptest::prelude::*;

use super::*;
use crate::vcpu::{CR0_PG, CR4_LA57, CR4_PAE};

/// Bytes that begin like instructions which reach memory, among them prefixes.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop::sample::select(&[0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x64, 0x2E, 0x48, 0x4C][..]);
    let opcode = prop::sample::select(
        &[
            0x00, 0x03, 0x0B, 0x21, 0x29, 0x33, 0x38, 0x63, 0x80, 0x81, 0x83, 0x84, 0x86, 0x88,
            0x89, 0x8A, 0x8B, 0xA0, 0xA1, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD,
            0xAE, 0xAF, 0xC6, 0xC7, 0xF6, 0xF7, 0xFE, 0xFF, 0x0F,
        ][..],
    );
    (
        prop::collection::vec(prefix, 0..4),
        opcode,
        any::<[u8; 11]>(),
    )
        .prop_map(|(mut bytes, opcode, rest)| {
            bytes.push(opcode);
            bytes.extend(rest);
            bytes
        })
}

fn register() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..DEVICE_SIZE).prop_map(|offset| MMIO + offset),
        (0..0x2000_u64).prop_map(|offset| RAM + offset),
        0..32_u64,
        (0..DEVICE_SIZE).prop_map(|offset| DEVICE + offset),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_code_and_registers_end(
        code in prop_oneof![code(), prop::collection::vec(any::<u8>(), 15)],
        gprs in prop::collection::vec(register(), 16),
        at in prop::sample::select(&[0_u64, 0xFF8, 0xFFF, 0x1FFA][..]),
        rflags in any::<u64>(),
        mode in 0..4,
        cpl in 0..4_u8,
        linear in prop::option::of(register()),
        bits in any::<[bool; 4]>(),
    ) {
        let mut machine = match mode {
            0 | 1 => Machine::long(),
            2 => Machine::flat(TestVcpu::protected()),
            _ => Machine::flat(TestVcpu::real()),
        };
        machine.vcpu.rip += at;
        machine.vcpu.rflags = rflags;
        machine.vcpu.gprs.copy_from_slice(&gprs);
        machine.cpl = cpl;
        machine.load(CODE_GPA + at, &code);
        let violation = EptViolation {
            gpa: linear.filter(|linear| *linear >= MMIO).map_or(DEVICE, |linear| {
                DEVICE + linear % DEVICE_SIZE
            }),
            linear,
            read: bits[0],
            write: bits[1],
            fetch: false,
            final_access: bits[2],
            nmi_unblocked: false,
            pending: bits[3],
        };
        for _ in 0..2 {
            let before = machine.vcpu.clone();
            let device = machine.device.seen.len();
            match machine.emulate(violation) {
                Ok(Outcome::Completed) => prop_assert_ne!(machine.vcpu.rip, before.rip),
                Ok(Outcome::Interrupted) => prop_assert_eq!(machine.vcpu.rip, before.rip),
                Ok(Outcome::Fault(event)) => {
                    prop_assert_eq!(machine.vcpu.rip, before.rip);
                    prop_assert!(matches!(event.vector, 12 | 13 | 14 | 17));
                }
                Err(_) => prop_assert_eq!(machine.vcpu.rip, before.rip),
            }
            prop_assert!(machine.device.seen.len() - device <= 8 * 1024);
        }
    }

    #[test]
    fn any_page_tables_end(
        tables in prop::collection::vec((0..0x800_u64, any::<u64>(), 0..8_u64), 48),
        rip in any::<u64>(),
        gprs in any::<[u64; 16]>(),
        paging in any::<[bool; 3]>(),
        pdptes in any::<[u64; 4]>(),
        rights in any::<u32>(),
        cpl in 0..4_u8,
    ) {
        let memory = TestMemory::default();
        for (slot, high, page) in tables {
            memory.poke_u64(0x1000 + slot * 8, high & 0x8000_0000_0000_0FFF | page << 12 | 1);
        }
        let mut vcpu = TestVcpu::long();
        vcpu.cr0 &= !(u64::from(paging[0]) * CR0_PG);
        vcpu.cr4 &= !(u64::from(paging[1]) * CR4_PAE);
        vcpu.cr4 |= u64::from(paging[2]) * CR4_LA57;
        vcpu.pdptes = pdptes;
        vcpu.rip = rip;
        vcpu.gprs = gprs;
        let segment = &mut vcpu.segments[SegmentRegister::Cs as usize];
        segment.access_rights = crate::vcpu::SegmentAccessRights::from_bits(rights);
        let mut machine = Machine {
            vcpu,
            memory,
            device: TestDevice::new(),
            cache: DecodeCache::new(),
            cpl,
        };
        let violation = EptViolation {
            linear: None,
            final_access: false,
            ..machine.violation(DEVICE, false)
        };
        let _ = machine.emulate(violation);
    }
}
