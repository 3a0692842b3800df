//! QEMU's devices: a machine whose processor halts at its reset, and whose ports, registers and memory are reached over
//! the qtest protocol (QEMU, `softmmu/qtest.c`).

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::NamedTempFile;

/// A firmware of this length ends at 4 GiB, with the reset vector 16 bytes before.
const FIRMWARE: usize = 0x1_0000;
/// cli; hlt; jmp to the hlt.
const HALT: [u8; 4] = [0xFA, 0xF4, 0xEB, 0xFD];

/// The machine; it ends with the value.
#[derive(Debug)]
pub struct Machine {
    /// Not stopped, but halted: a console does not read from its far end while the machine is stopped.
    _firmware: NamedTempFile,
    qemu: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Machine {
    /// A Q35 with 64 MiB of memory, a host bridge and what the arguments say.
    pub fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut firmware = vec![0; FIRMWARE - 16];
        firmware.extend_from_slice(&HALT);
        firmware.resize(FIRMWARE, 0);
        let mut file = NamedTempFile::new()?;
        file.write_all(&firmware)?;
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-machine", "q35", "-accel", "tcg", "-m", "64"])
            .arg("-bios")
            .arg(file.path())
            .args(["-nodefaults", "-display", "none"])
            .args(["-qtest", "stdio", "-qtest-log", "none"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run qemu-system-x86_64 (Debian package qemu-system-x86)")?;
        let to = qemu.stdin.take().context("no standard input")?;
        let from = qemu.stdout.take().context("no standard output")?;
        let from = BufReader::new(from);
        Ok(Self {
            _firmware: file,
            qemu,
            to,
            from,
        })
    }

    /// Reads a doubleword at a port.
    pub fn port_read(&mut self, port: u16) -> Result<u32> {
        let value = self.ask(&format!("inl {port:#x}"))?;
        Ok(u32::try_from(number(&value)?)?)
    }

    /// Writes a doubleword to a port.
    pub fn port_write(&mut self, port: u16, value: u32) -> Result<()> {
        self.ask(&format!("outl {port:#x} {value:#x}")).map(|_| ())
    }

    /// Reads a register of `width` bytes: 1, 2, 4 or 8.
    pub fn register_read(&mut self, address: u64, width: u64) -> Result<u64> {
        let value = self.ask(&format!("read{} {address:#x}", suffix(width)?))?;
        number(&value)
    }

    /// Writes a register of `width` bytes: 1, 2, 4 or 8.
    pub fn register_write(&mut self, address: u64, width: u64, value: u64) -> Result<()> {
        self.ask(&format!("write{} {address:#x} {value:#x}", suffix(width)?))
            .map(|_| ())
    }

    /// Reads memory.
    pub fn memory_read(&mut self, address: u64, into: &mut [u8]) -> Result<()> {
        if into.is_empty() {
            return Ok(());
        }
        let digits = self.ask(&format!("read {address:#x} {:#x}", into.len()))?;
        let digits = digits.strip_prefix("0x").context("no hexadecimal")?;
        Ok(hex::decode_to_slice(digits, into)?)
    }

    /// Writes memory.
    pub fn memory_write(&mut self, address: u64, from: &[u8]) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        let digits = hex::encode(from);
        self.ask(&format!("write {address:#x} {:#x} 0x{digits}", from.len()))
            .map(|_| ())
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        writeln!(self.to, "{command}")?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        ensure!(!line.is_empty(), "QEMU has ended");
        let answer = line.trim_end().strip_prefix("OK");
        let answer = answer.with_context(|| format!("{command}: {line}"))?;
        Ok(answer.trim_start().to_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn number(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x").context("no hexadecimal")?;
    Ok(u64::from_str_radix(digits, 16)?)
}

fn suffix(width: u64) -> Result<char> {
    Ok(match width {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        8 => 'q',
        _ => bail!("a register of {width} bytes"),
    })
}
