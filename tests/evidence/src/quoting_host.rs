//! The host: its quoting service, behind TDG.VP.VMCALL\<GetQuote\> (GHCI 1.5, section 3.3).

use quoting::QuotingEnclave;
use quoting::message::Request;
use tdx_defs::ghci::CompletionStatus;
use tdx_defs::report::TdReport;
use tdx_module::test_platform::{SHARED_MEMORY, TestPlatform};
use tdx_module::{Module, Platform, TdExit, VpEnterInput};
use zerocopy::FromBytes;

/// TDG.VP.VMCALL\<GetQuote\>.
const GET_QUOTE: u64 = 0x10002;
/// Bytes in front of a request and of an answer: version, status, length of either.
const HEADER: usize = 24;
/// The host could not make a quote.
const ERROR: u64 = 0x8000_0000_0000_0000;

/// A quoting service.
#[derive(Clone)]
pub enum Service {
    /// This quoting enclave, at once.
    Enclave(Box<QuotingEnclave>),
    /// There is none.
    Absent,
}

impl Default for Service {
    /// The quoting enclave that the committed certificates name.
    fn default() -> Service {
        Service::Enclave(Box::default())
    }
}

/// The host's quoting services.
#[derive(Clone, Default)]
pub struct QuotingHost {
    /// For the first request, which is L1's for its CA.
    pub authority: Service,
    /// For all others.
    pub reports: Service,
}

impl QuotingHost {
    /// One service for all requests.
    pub fn of(service: Service) -> QuotingHost {
        QuotingHost {
            authority: service.clone(),
            reports: service,
        }
    }

    /// What the host does about a TD exit that asks for a quote, after so many others.
    pub(crate) fn serve(
        &self,
        earlier: usize,
        module: &mut Module,
        platform: &mut TestPlatform,
        exit: &TdExit,
    ) -> VpEnterInput {
        let call = &exit.registers;
        assert_eq!(call.r11, GET_QUOTE, "L1 asks the host for nothing else");
        let service = match earlier {
            0 => &self.authority,
            _ => &self.reports,
        };
        let Service::Enclave(enclave) = service else {
            return done(CompletionStatus::InvalidOperand);
        };
        // Shared pages are above the private ones, without the shared bit.
        let buffer = SHARED_MEMORY + (call.r12 & 0xFFFF_FFFF);
        let mut data = vec![0; call.r13 as usize];
        platform.read(buffer, &mut data);
        let length = u32::from_le_bytes(data[16..20].try_into().expect("4 bytes")) as usize;
        let (status, answer) = match quote(enclave, module, &data[HEADER..HEADER + length]) {
            Some(answer) => (0, answer),
            None => (ERROR, Vec::new()),
        };
        platform.write(buffer + HEADER as u64, &answer);
        platform.write(buffer + 20, &(answer.len() as u32).to_le_bytes());
        platform.write(buffer + 8, &status.to_le_bytes());
        done(CompletionStatus::Success)
    }
}

/// The quoting enclave quotes reports of its platform alone.
fn quote(enclave: &QuotingEnclave, module: &Module, data: &[u8]) -> Option<Vec<u8>> {
    let request = Request::parse(data)?;
    let report = TdReport::read_from_bytes(request.report).ok()?;
    if !module.is_local_report(&report.report_mac) {
        return None;
    }
    let quote = enclave.quote(request.report).ok()?;
    request.form.answer(Ok(&quote))
}

fn done(status: CompletionStatus) -> VpEnterInput {
    let mut input = VpEnterInput::default();
    input.registers.r10 = status.r10();
    input
}
