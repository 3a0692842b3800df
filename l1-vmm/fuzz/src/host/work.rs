//! What the device does with the requests that it has.

use super::queue::Request;
use super::{LIES, Model, PORT};
use virtio_defs::{block, console, status, vsock};

impl Model {
    /// Does what there is to do on all queues.
    pub(super) fn work(&mut self) {
        if self.status & status::DRIVER_OK == 0 || self.gone {
            return;
        }
        if self.kind != block::DEVICE_TYPE {
            self.make_up();
        }
        for index in 0..self.queues.len() {
            self.serve(index);
        }
        // What was answered to what came.
        self.serve(0);
    }

    /// Something to send that nobody has asked for.
    fn make_up(&mut self) {
        let choice = self.input.byte();
        if choice & 0xC0 != 0x40 {
            return;
        }
        let message = match self.kind {
            vsock::DEVICE_TYPE if choice & 0x20 == 0 => {
                let operation = match self.input.byte() {
                    often @ ..0x80 => vsock::OPERATION_DATA + u16::from(often & 1),
                    other => u16::from(other & 7),
                };
                let data = self.input.bytes(usize::from(choice & 0xF));
                self.packet(operation, &data)
            }
            _ => self.input.bytes(usize::from(choice & 0x3F)),
        };
        self.to_send.push_back(message);
    }

    fn serve(&mut self, index: usize) {
        let memory = self.memory.clone();
        let Some(queue) = self.queues.get_mut(index) else {
            return;
        };
        if queue.enabled != 1 {
            return;
        }
        queue.pull(&memory);
        self.held_most = self.held_most.max(queue.held.len());
        for request in queue.held.clone() {
            self.finish(index, &request);
        }
        if let Some(queue) = self.queues.get(index) {
            queue.set_event(&memory, queue.seen);
        }
    }

    /// Does a request and tells it, or something else.
    fn finish(&mut self, index: usize, request: &Request) {
        let memory = self.memory.clone();
        let choice = self.input.byte();
        let lie = choice >= LIES;
        let done = match choice {
            0xF0 => return,
            0xF5 => Some(request.room()),
            0xF6 => {
                let count = request.room().min(16) as usize;
                Some(request.write(&memory, &self.input.bytes(count)))
            }
            _ => self.perform(index as u16, request),
        };
        self.lies += u64::from(lie);
        let Some(queue) = self.queues.get_mut(index) else {
            return;
        };
        let head = u32::from(request.head);
        let Some(length) = done else {
            return;
        };
        match choice {
            0xF1 => queue.push(&memory, self.input.dword(), length),
            0xF2 => queue.push(&memory, head, self.input.dword()),
            0xF3 => {
                memory.blurred.set(true);
                queue.set_used(&memory, self.input.word());
            }
            0xF4 => {
                queue.push(&memory, head, length);
                queue.push(&memory, head, length);
            }
            0xF7 => {
                let last = queue.held.last().map_or(head, |other| other.head.into());
                queue.push(&memory, last, length);
            }
            0xF8 => {
                let descriptors = 16 * usize::from(queue.size);
                memory.put(queue.areas[0], &vec![0xFF; descriptors]);
                queue.push(&memory, head, length);
            }
            0xF9 => queue.push(&memory, u32::from(self.input.byte() & 63), length),
            _ => queue.push(&memory, head, length),
        }
    }

    /// Does a request as it should be done: bytes written, or none if it stays.
    fn perform(&mut self, queue: u16, request: &Request) -> Option<u32> {
        let memory = self.memory.clone();
        match (self.kind, queue) {
            (block::DEVICE_TYPE, _) => {
                let mut bytes = vec![0; request.room() as usize];
                if let Some(status) = bytes.last_mut() {
                    *status = block::STATUS_OK;
                }
                Some(request.write(&memory, &bytes))
            }
            (_, console::QUEUE_RECEIVE) => {
                let message = self.to_send.pop_front()?;
                Some(request.write(&memory, &message))
            }
            (vsock::DEVICE_TYPE, vsock::QUEUE_TRANSMIT) => {
                self.answer_packet(&request.read(&memory));
                Some(0)
            }
            (_, console::QUEUE_TRANSMIT) => Some(0),
            // Events.
            _ => None,
        }
    }

    /// What the far end says to a packet.
    fn answer_packet(&mut self, bytes: &[u8]) {
        let Some(header) = bytes.get(..vsock::HEADER_LENGTH) else {
            return;
        };
        let operation = u16::from_le_bytes([header[30], header[31]]);
        let answer = match operation {
            vsock::OPERATION_REQUEST => {
                self.port = header[16..20].try_into().map_or(0, u32::from_le_bytes);
                self.forwarded = 0;
                vsock::OPERATION_RESPONSE
            }
            vsock::OPERATION_DATA => {
                let length = bytes.len() - vsock::HEADER_LENGTH;
                self.forwarded = self.forwarded.wrapping_add(length as u32);
                vsock::OPERATION_CREDIT_UPDATE
            }
            _ => return,
        };
        let packet = self.packet(answer, &[]);
        self.to_send.push_back(packet);
    }

    /// A packet of the connection that the driver has asked for last.
    pub fn packet(&self, operation: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; vsock::HEADER_LENGTH];
        let mut put = |at: usize, from: &[u8]| bytes[at..at + from.len()].copy_from_slice(from);
        put(vsock::HEADER_SOURCE_CID, &vsock::HOST_CID.to_le_bytes());
        let guest = vsock::FIRST_GUEST_CID.to_le_bytes();
        put(vsock::HEADER_DESTINATION_CID, &guest);
        put(vsock::HEADER_SOURCE_PORT, &PORT.to_le_bytes());
        put(vsock::HEADER_DESTINATION_PORT, &self.port.to_le_bytes());
        put(
            vsock::HEADER_DATA_LENGTH,
            &(data.len() as u32).to_le_bytes(),
        );
        put(vsock::HEADER_TYPE, &vsock::TYPE_STREAM.to_le_bytes());
        put(vsock::HEADER_OPERATION, &operation.to_le_bytes());
        put(vsock::HEADER_ALLOCATED, &0x4000_u32.to_le_bytes());
        put(vsock::HEADER_FORWARDED, &self.forwarded.to_le_bytes());
        if self.input.byte() >= LIES {
            let at = usize::from(self.input.byte()) % vsock::HEADER_LENGTH;
            put(at, &[self.input.byte()]);
        }
        bytes.extend(data);
        bytes
    }
}
