//! Frames of a websocket, as pveproxy reads and writes them [pve-http-server `AnyEvent.pm` websocket_proxy].

use bytes::{Buf, BytesMut};

/// Largest frame of a client.
const LARGEST: usize = 128 << 10;

const BINARY: u8 = 2;
const PONG: u8 = 10;

/// A frame of a client's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Text or binary: pveproxy passes on both.
    Data(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close,
}

/// Something that pveproxy ends the connection for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// The first frame, once it is whole: no fragment, no extension, masked, not too large.
pub(super) fn take(raw: &mut BytesMut) -> Result<Option<Frame>, Broken> {
    let [first, second, ..] = **raw else { return Ok(None) };
    if first & 0xf0 != 0x80 || second & 0x80 == 0 {
        return Err(Broken);
    }
    let (length, at) = match second & 0x7f {
        126 => (raw.get(2..4).map(|it| it.iter().fold(0, |sum, it| sum << 8 | u64::from(*it))), 4),
        127 => (raw.get(2..10).map(|it| it.iter().fold(0, |sum, it| sum << 8 | u64::from(*it))), 10),
        short => (Some(u64::from(short)), 2),
    };
    let Some(length) = length else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|it| *it <= LARGEST).ok_or(Broken)?;
    if raw.len() < at + 4 + length {
        return Ok(None);
    }
    raw.advance(at);
    let mask = raw.split_to(4);
    let masked = raw.split_to(length);
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    match first & 0x0f {
        1 | BINARY => Ok(Some(Frame::Data(payload))),
        8 => Ok(Some(Frame::Close)),
        9 => Ok(Some(Frame::Ping(payload))),
        PONG => Ok(Some(Frame::Pong)),
        _ => Err(Broken),
    }
}

/// A frame with bytes of the terminal.
pub(super) fn binary(payload: &[u8]) -> Vec<u8> {
    whole(BINARY, payload)
}

/// The answer to a ping.
pub(super) fn pong(payload: &[u8]) -> Vec<u8> {
    whole(PONG, payload)
}

fn whole(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | kind];
    match u16::try_from(payload.len()) {
        Ok(short @ ..126) => frame.push(short.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(head: &[u8], payload: &[u8]) -> BytesMut {
        let mask = [1, 2, 3, 4];
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        head.iter().copied().chain(mask).chain(masked).collect()
    }

    #[test]
    fn frames_are_taken_when_they_are_whole() {
        let mut raw = masked(&[0x82, 0xfe, 0, 200], &[7; 200]);
        raw.extend(masked(&[0x81, 0x81], b"a"));
        raw.extend(masked(&[0x88, 0x80], b""));
        let all = raw.split();
        let mut frames = Vec::new();
        for byte in all {
            raw.extend([byte]);
            frames.extend(take(&mut raw).expect("a frame"));
        }
        assert_eq!(frames, [Frame::Data(vec![7; 200]), Frame::Data(b"a".to_vec()), Frame::Close]);
    }

    #[test]
    fn what_pveproxy_dies_of_is_broken() {
        for head in [[0x02, 0x81], [0xc2, 0x81], [0x82, 0x01], [0x83, 0x81]] {
            assert_eq!(take(&mut masked(&head, b"a")), Err(Broken), "{head:?}");
        }
        assert_eq!(take(&mut masked(&[0x82, 0xff, 0, 0, 0, 0, 0, 2, 0, 1], b"")), Err(Broken));
    }
}
