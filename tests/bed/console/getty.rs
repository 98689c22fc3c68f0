//! A getty: asks for a name and a password, and lets nobody in.

use std::collections::VecDeque;

/// What it asks first.
const LOGIN: &str = "vm login: ";

/// A getty on a terminal.
pub(super) struct Getty {
    /// What it has written, and nobody has read.
    written: VecDeque<u8>,
    wants_password: bool,
}

impl Getty {
    /// One that asks for a name.
    pub(super) fn new() -> Self {
        Self { written: LOGIN.bytes().collect(), wants_password: false }
    }

    /// Reads what is typed.
    pub(super) fn typed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\r' | b'\n' if self.wants_password => self.say(&format!("\nLogin incorrect\n{LOGIN}")),
                b'\r' | b'\n' => self.say("\nPassword: "),
                // A password is not echoed.
                _ if self.wants_password => continue,
                _ => {
                    self.written.push_back(byte);
                    continue;
                }
            }
            self.wants_password = !self.wants_password;
        }
    }

    /// Takes what is written; 0 is nothing yet.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let length = self.written.len().min(buffer.len());
        for (to, byte) in buffer.iter_mut().zip(self.written.drain(..length)) {
            *to = byte;
        }
        length
    }

    fn say(&mut self, text: &str) {
        self.written.extend(text.replace('\n', "\r\n").bytes());
    }
}
