//! What a client says to `termproxy`, whose bytes may come in any pieces.

/// Longest line with a ticket, and longest number in a message.
const LONGEST_LINE: usize = 8192;
const LONGEST_NUMBER: usize = 8;

/// Bytes that have come and are not understood yet.
#[derive(Default)]
pub(super) struct Incoming(Vec<u8>);

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// `0:LEN:DATA`
    Data(Vec<u8>),
    /// `1:COLS:ROWS:`
    Size(u16, u16),
    /// `2`
    Nothing,
}

/// Something that termproxy ends at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nonsense;

impl Incoming {
    /// More of it.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// How many bytes of an unfinished message there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// User and ticket, once the line is whole.
    pub(super) fn login(&mut self) -> Result<Option<(String, String)>, Nonsense> {
        let Some(end) = self.0.iter().position(|it| *it == b'\n') else {
            return if self.0.len() > LONGEST_LINE { Err(Nonsense) } else { Ok(None) };
        };
        let line: Vec<u8> = self.0.drain(..=end).take(end).collect();
        let line = String::from_utf8(line).map_err(|_| Nonsense)?;
        let (user, ticket) = line.split_once(':').ok_or(Nonsense)?;
        Ok(Some((user.to_owned(), ticket.to_owned())))
    }

    /// The next message, once it is whole.
    pub(super) fn message(&mut self) -> Result<Option<Message>, Nonsense> {
        let Some(kind) = self.0.first() else { return Ok(None) };
        let (message, length) = match kind {
            b'0' => {
                let Some((length, at)) = self.number(2)? else { return Ok(None) };
                let Some(data) = self.0.get(at..at + length) else { return Ok(None) };
                (Message::Data(data.to_vec()), at + length)
            }
            b'1' => {
                let Some((cols, at)) = self.number(2)? else { return Ok(None) };
                let Some((rows, at)) = self.number(at)? else { return Ok(None) };
                let short = |it: usize| u16::try_from(it).map_err(|_| Nonsense);
                (Message::Size(short(cols)?, short(rows)?), at)
            }
            b'2' => (Message::Nothing, 1),
            _ => return Err(Nonsense),
        };
        self.0.drain(..length);
        Ok(Some(message))
    }

    /// The number that begins at `from`, after a colon, and the place after its own colon.
    fn number(&self, from: usize) -> Result<Option<(usize, usize)>, Nonsense> {
        match self.0.get(from - 1) {
            None => return Ok(None),
            Some(b':') => {}
            Some(_) => return Err(Nonsense),
        }
        let rest = self.0.get(from..).unwrap_or_default();
        let Some(length) = rest.iter().position(|it| *it == b':') else {
            return if rest.len() > LONGEST_NUMBER { Err(Nonsense) } else { Ok(None) };
        };
        let digits = rest.get(..length).and_then(|it| std::str::from_utf8(it).ok()).ok_or(Nonsense)?;
        let number = digits.parse().map_err(|_| Nonsense)?;
        Ok(Some((number, from + length + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_from_any_pieces() {
        let all = b"edge@pve!a:PVEVNC:0::x\n0:3:a\nb1:200:50:220:0:0:2:0:";
        for size in 1..all.len() {
            let mut incoming = Incoming::default();
            let (mut login, mut messages) = (None, Vec::new());
            for piece in all.chunks(size) {
                incoming.push(piece);
                if login.is_none() {
                    login = incoming.login().expect("a login");
                }
                while login.is_some()
                    && let Some(message) = incoming.message().expect("a message")
                {
                    messages.push(message);
                }
            }
            assert_eq!(login, Some(("edge@pve!a".into(), "PVEVNC:0::x".into())));
            let data = |it: &[u8]| Message::Data(it.to_vec());
            let expected = [
                data(b"a\nb"),
                Message::Size(200, 50),
                Message::Nothing,
                Message::Nothing,
                data(b""),
                data(b"0:"),
            ];
            assert_eq!(messages, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn nonsense_is_told() {
        for bytes in [&b"3"[..], b"0x", b"0:x:", b"0::", b"1:70000:1:", b"0:-1:", b"0:123456789"] {
            let mut incoming = Incoming::default();
            incoming.push(bytes);
            assert_eq!(incoming.message(), Err(Nonsense), "{bytes:?}");
        }
    }
}
