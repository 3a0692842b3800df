//! A guest that is a list of TPM commands: what boots need that look at the TPM's state, and at nothing else of a guest.

use super::kernel::bz_image;
use super::program::Program;
use super::resets;
use super::runtime::place;
use anyhow::{Context, Result, ensure};
use iced_x86::code_asm::{al, dx, eax, ecx, qword_ptr, rax, rsi};
use x86_defs::pc;

/// Response codes (TPM 2.0 Library, part 2, "TPM_RC").
pub(crate) const SUCCESS: u32 = 0;
pub(crate) const FAILURE: u32 = 0x101;
pub(crate) const NV_UNAVAILABLE: u32 = 0x923;

/// An NV index whose value is a counter.
const COUNTER: u32 = 0x0150_0017;
/// Where in NV_Read's response the bytes are: behind header, parameterSize and their number.
const READ: u64 = 16;

/// One thing after the other.
#[derive(Clone)]
pub(crate) enum Step {
    /// The command's response code is this one.
    Send(&'static str, Vec<u8>, u32),
    /// As [`Step::Send`]; the command is not in the kernel's file.
    SendMasked(&'static str, Vec<u8>, u32),
    /// The counter's value, or why it cannot be read, goes to the console.
    ShowCounter(&'static str),
    /// The number that the page is filled with, or why it cannot be read, goes to the console.
    ShowPage(&'static str),
    /// A line for the console.
    Say(&'static str),
    /// A line is waited for from the console.
    Listen,
    /// A byte for port 0x80.
    Mark(u8),
    /// A reset of the machine, unless the TPM's count of resets is this one: the steps begin again.
    ResetUpTo(u32),
}

/// The steps as a kernel, which powers off at their end.
pub(crate) fn kernel(steps: &[Step]) -> Result<Vec<u8>> {
    let mut p = Program::new()?;
    p.take_tpm()?;
    for step in steps {
        match step {
            Step::Send(name, command, code) => {
                p.tpm_command(command)?;
                p.check(name, u64::from(*code))?;
            }
            Step::SendMasked(name, command, code) => {
                p.masked_tpm_command(command)?;
                p.check(name, u64::from(*code))?;
            }
            Step::ShowCounter(name) => show_read(&mut p, name, COUNTER, 8)?,
            Step::ShowPage(name) => show_read(&mut p, name, PAGE, PAGE_SIZE)?,
            Step::Say(line) => p.say(line)?,
            Step::Listen => listen(&mut p)?,
            Step::ResetUpTo(count) => {
                resets::count_resets_or_power_off(&mut p, *count)?;
                resets::reset(&mut p)?;
            }
            Step::Mark(value) => {
                p.a.mov(eax, u32::from(*value))?;
                p.a.out(0x80, al)?;
            }
        }
    }
    p.power_off()?;
    Ok(bz_image(&p.assemble()?.code))
}

/// Reads an index, and shows the number that each 8 bytes of it are.
fn show_read(p: &mut Program, name: &str, index: u32, size: u16) -> Result<()> {
    let (mut failed, mut show) = (p.a.create_label(), p.a.create_label());
    let mut next = p.a.create_label();
    p.tpm_command(&read(index, size))?;
    p.a.test(eax, eax)?;
    p.a.jnz(failed)?;
    p.a.mov(rsi, place::RESPONSE + READ)?;
    p.a.mov(rax, qword_ptr(rsi))?;
    p.a.mov(ecx, u32::from(size / 8))?;
    p.a.set_label(&mut next)?;
    p.a.cmp(qword_ptr(rsi), rax)?;
    p.a.jne(failed)?;
    p.a.add(rsi, 8)?;
    p.a.dec(ecx)?;
    p.a.jnz(next)?;
    p.a.bswap(rax)?;
    p.a.jmp(show)?;
    p.a.set_label(&mut failed)?;
    // No number comes to this.
    p.a.bts(rax, 63)?;
    p.a.set_label(&mut show)?;
    p.show(name)?;
    Ok(())
}

/// Reads COM1 up to the end of a line.
fn listen(p: &mut Program) -> Result<()> {
    const LINE_STATUS: u32 = pc::COM1 as u32 + 5;
    const DATA_READY: u32 = 1;
    let mut again = p.a.create_label();
    p.a.set_label(&mut again)?;
    p.a.mov(dx, LINE_STATUS)?;
    p.a.in_(al, dx)?;
    p.a.test(al, DATA_READY as i32)?;
    p.a.jz(again)?;
    p.a.mov(dx, u32::from(pc::COM1))?;
    p.a.in_(al, dx)?;
    p.a.cmp(al, i32::from(b'\n'))?;
    p.a.jne(again)?;
    Ok(())
}

/// Whether the console shows that every command of `steps` was answered as it should be.
pub(crate) fn check(console: &[String], steps: &[Step]) -> Result<()> {
    for step in steps {
        let (Step::Send(name, ..) | Step::SendMasked(name, ..)) = step else {
            continue;
        };
        let line = find(console, &format!("@check {name} "))
            .with_context(|| format!("the guest did not come to {name:?}"))?;
        ensure!(line == "ok", "{name}: the TPM answered otherwise: {line}");
    }
    Ok(())
}

/// What a [`Step::ShowCounter`] or [`Step::ShowPage`] showed.
pub(crate) fn counter(console: &[String], name: &str) -> Result<u64> {
    let digits = find(console, &format!("@value {name} "))
        .with_context(|| format!("the guest did not show {name:?}"))?;
    // The digits after 9 are the characters after 9.
    let value = digits
        .bytes()
        .fold(0, |value: u64, digit| value << 4 | u64::from(digit & 0xF));
    ensure!(
        value >> 63 == 0,
        "{name}: the TPM answered {:#x}",
        value as u32
    );
    Ok(value)
}

fn find<'a>(console: &'a [String], prefix: &str) -> Option<&'a str> {
    console.iter().find_map(|line| line.strip_prefix(prefix))
}

/// A command with the owner's authorization, which is empty, behind these handles.
fn command(code: u32, handles: &[u32], parameters: &[u8]) -> Vec<u8> {
    // Its size (4), TPM_RS_PW, no nonce, no attributes, no password.
    const AUTHORIZATION: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0];
    let mut command = vec![0x80, 0x02, 0, 0, 0, 0];
    command.extend(code.to_be_bytes());
    for handle in handles {
        command.extend(handle.to_be_bytes());
    }
    command.extend(AUTHORIZATION);
    command.extend(parameters);
    let length = (command.len() as u32).to_be_bytes();
    command[2..6].copy_from_slice(&length);
    command
}

const OWNER: u32 = 0x4000_0001;

/// TPM2_NV_DefineSpace of an index that the owner reads and writes.
fn define(index: u32, kind: u32, size: u16) -> Vec<u8> {
    // TPMA_NV: OWNERWRITE, OWNERREAD, and the type in bits 7:4.
    let attributes: u32 = 0x2_0002 | kind << 4;
    let mut public = index.to_be_bytes().to_vec();
    public.extend([0, 0x0B]);
    public.extend(attributes.to_be_bytes());
    public.extend([0, 0]);
    public.extend(size.to_be_bytes());
    let mut parameters = vec![0, 0];
    parameters.extend((public.len() as u16).to_be_bytes());
    parameters.extend(public);
    command(0x12A, &[OWNER], &parameters)
}

fn write(index: u32, bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u16).to_be_bytes();
    command(0x137, &[OWNER, index], &[&length, bytes, &[0, 0]].concat())
}

fn read(index: u32, size: u16) -> Vec<u8> {
    let [high, low] = size.to_be_bytes();
    command(0x14E, &[OWNER, index], &[high, low, 0, 0])
}

/// TPM2_NV_DefineSpace of the counter.
pub(crate) fn define_counter() -> Vec<u8> {
    define(COUNTER, 1, 8)
}

/// TPM2_NV_Increment of the counter: one commit.
pub(crate) fn increment() -> Vec<u8> {
    command(0x134, &[OWNER, COUNTER], &[])
}

/// TPM2_NV_Read of the counter.
pub(crate) fn read_counter() -> Vec<u8> {
    read(COUNTER, 8)
}

/// An NV index of as many bytes as a command writes (TPM_PT_NV_BUFFER_MAX of libtpms).
const PAGE: u32 = 0x0150_0019;
const PAGE_SIZE: u16 = 1024;

/// TPM2_NV_DefineSpace of the page.
pub(crate) fn define_page() -> Vec<u8> {
    define(PAGE, 0, PAGE_SIZE)
}

/// TPM2_NV_Write of a number to each 8 bytes of the page: one commit.
pub(crate) fn write_page(number: u32) -> Vec<u8> {
    write(
        PAGE,
        &u64::from(number)
            .to_be_bytes()
            .repeat((PAGE_SIZE / 8).into()),
    )
}

/// An NV index for 32 bytes.
const SECRET: u32 = 0x0150_0018;

/// TPM2_NV_DefineSpace of 32 bytes.
pub(crate) fn define_secret() -> Vec<u8> {
    define(SECRET, 0, 32)
}

/// TPM2_NV_Write of them.
pub(crate) fn write_secret(secret: &[u8; 32]) -> Vec<u8> {
    write(SECRET, secret)
}

/// TPM2_CreatePrimary of a sealed data object with this in it.
pub(crate) fn seal(secret: &[u8; 32]) -> Vec<u8> {
    // Of the sensitive area its size, no password, and the data's size.
    let mut parameters = vec![0, 36, 0, 0, 0, 32];
    parameters.extend(secret);
    // TPM_ALG_KEYEDHASH, SHA-256, fixedTPM, fixedParent and userWithAuth, no policy, no scheme, no unique.
    parameters.extend([0, 14, 0, 0x08, 0, 0x0B, 0, 0, 0, 0x52, 0, 0, 0, 0x10, 0, 0]);
    // No outsideInfo, no PCRs.
    parameters.extend([0, 0, 0, 0, 0, 0]);
    command(0x131, &[OWNER], &parameters)
}

/// TPM2_PCR_Extend of PCR 16, by SHA-256.
pub(crate) fn extend() -> Vec<u8> {
    let mut parameters = vec![0, 0, 0, 1, 0, 0x0B];
    parameters.extend([0xEE; 32]);
    command(0x182, &[16], &parameters)
}

/// TPM2_PCR_Read of PCR 16, of the SHA-256 bank.
pub(crate) fn read_pcr() -> Vec<u8> {
    let mut command = vec![0x80, 0x01, 0, 0, 0, 20, 0, 0, 0x01, 0x7E];
    command.extend([0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 1]);
    command
}

/// TPM2_GetRandom(16).
pub(crate) fn get_random() -> Vec<u8> {
    super::tpm_commands::GET_RANDOM.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_shows_is_read() {
        let console = [
            "@check first ok".to_owned(),
            "@check second fail 0000000000000923".to_owned(),
            "@value counter 000000000000001?".to_owned(),
            "@value none 800000000000018;".to_owned(),
        ];
        let first = [Step::Send("first", increment(), SUCCESS)];
        check(&console, &first).unwrap();
        for name in ["second", "third"] {
            let steps = [Step::Send(name, increment(), SUCCESS)];
            assert!(check(&console, &steps).is_err(), "{name}");
        }
        assert_eq!(counter(&console, "counter").unwrap(), 0x1F);
        let error = counter(&console, "none").unwrap_err().to_string();
        assert!(error.ends_with("answered 0x18b"), "{error}");
    }

    #[test]
    fn commands_tell_their_length() {
        let secret = [7; 32];
        for command in [
            define_counter(),
            increment(),
            extend(),
            write_secret(&secret),
            write_page(7),
            seal(&secret),
        ] {
            let length = u32::from_be_bytes(command[2..6].try_into().unwrap());
            assert_eq!(length as usize, command.len());
        }
    }
}
