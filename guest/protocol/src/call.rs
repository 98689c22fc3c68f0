//! Signed calls: what the edge asks of one guest, once.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer};
use serde::{Deserialize, Serialize, de::Error};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    Unique, file,
    keys::{EdgeKey, KeyLine},
    process,
};

/// Bytes that the JSON of a call may have.
pub const LARGEST_CALL: usize = 16 << 10;

/// Bytes that a body may have which is checked before it counts: all but that of [`Operation::Stage`]. A spec with
/// [`process::LARGEST_INPUT`] bytes in base64 needs this much.
pub const LARGEST_BODY: u64 = 2 << 20;

/// What stands before the signed bytes, so that a signature of another kind is none of a call.
const CONTEXT: &[u8] = b"pve-edge call v1\n";

/// Call of the edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Id of the sandbox, without the node: `{provider}-{vmid}-{nonce}`.
    pub to: String,
    /// Session of the daemon in which the call is valid.
    pub session: Unique,
    /// Name of the call, which is taken once.
    pub call: Unique,
    /// What is asked.
    pub operation: Operation,
    /// The body that comes with it; `None` for [`Operation::Stage`], whose bytes nobody knows beforehand.
    pub body: Option<Body>,
}

/// Body of a call, as its signature holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Bytes.
    pub length: u64,
    /// SHA-256 of them.
    pub sha256: Digest256,
}

impl Body {
    /// The body of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { length: bytes.len() as u64, sha256: Digest256::of(bytes) }
    }
}

/// SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest256(pub [u8; 32]);

impl Digest256 {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Serialize for Digest256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Digest256 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(D::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// What a call asks.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", content = "args", rename_all = "kebab-case")]
pub enum Operation {
    /// Answer, which proves that this is the sandbox: [`crate::answer::Hello`].
    Hello {},
    /// Draw boot and session anew, because the guest's memory may be a copy: [`crate::answer::Health`].
    Renew {},
    /// Start a process, whose [`process::Spec`] is the body: [`process::Process`].
    Start(process::Start),
    /// List processes: [`process::Processes`].
    Processes {},
    /// Read one process: [`process::Process`].
    Process(process::Named),
    /// Follow a process's output: lines of [`process::Line`].
    Follow(process::Follow),
    /// Write the body to a process's standard input: [`process::StdinTaken`].
    Stdin(process::Stdin),
    /// Send a signal: [`process::Process`].
    Signal(process::Signal),
    /// Change the size of a terminal: [`process::Process`].
    Resize(process::Resize),
    /// Open a terminal over a websocket; the one call that is a `GET`.
    Terminal(process::Terminal),
    /// Kill a process and all its descendants, and forget it: [`crate::answer::Done`].
    Forget(process::Named),
    /// Tell what is at a path: [`file::Entry`].
    Stat(file::At),
    /// List a folder: lines of [`file::ListLine`].
    List(file::List),
    /// Read a file: its bytes, with the header [`crate::ENTRY`].
    Read(file::Read),
    /// Put the body into a file: [`file::Entry`].
    Write(file::Write),
    /// Take the body of any length aside, near where it is to be: [`file::Staged`].
    Stage(file::Stage),
    /// Put what was staged into its file: [`file::Entry`].
    Commit(file::Commit),
    /// Unpack what was staged, a tar archive, into a folder: [`file::Unpacked`].
    Unpack(file::Unpack),
    /// Pack a file or a folder: bytes of a tar archive.
    Pack(file::Pack),
    /// Make a folder: [`file::Entry`].
    Mkdir(file::Mkdir),
    /// Rename a file or a folder: [`file::Entry`].
    Move(file::Move),
    /// Remove a file or a folder: [`crate::answer::Done`].
    Remove(file::Remove),
    /// Watch a folder: lines of [`file::Change`].
    Watch(file::Watch),
    /// Measure the guest: [`crate::answer::Metrics`].
    Metrics {},
}

impl Operation {
    /// The word for [`Operation::Terminal`].
    pub const TERMINAL: &'static str = "terminal";

    /// The word for it in the path `/v1/{op}`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello {} => "hello",
            Self::Renew {} => "renew",
            Self::Start(_) => "start",
            Self::Processes {} => "processes",
            Self::Process(_) => "process",
            Self::Follow(_) => "follow",
            Self::Stdin(_) => "stdin",
            Self::Signal(_) => "signal",
            Self::Resize(_) => "resize",
            Self::Terminal(_) => Self::TERMINAL,
            Self::Forget(_) => "forget",
            Self::Stat(_) => "stat",
            Self::List(_) => "list",
            Self::Read(_) => "read",
            Self::Write(_) => "write",
            Self::Stage(_) => "stage",
            Self::Commit(_) => "commit",
            Self::Unpack(_) => "unpack",
            Self::Pack(_) => "pack",
            Self::Mkdir(_) => "mkdir",
            Self::Move(_) => "move",
            Self::Remove(_) => "remove",
            Self::Watch(_) => "watch",
            Self::Metrics {} => "metrics",
        }
    }
}

impl Operation {
    /// The operation of a word, with its arguments. By hand it takes a tenth of the room that serde's derive takes.
    fn of(name: &str, args: Value) -> Result<Self, serde_json::Error> {
        use serde_json::from_value as read;
        Ok(match name {
            "hello" => read(args).map(|Nothing {}| Self::Hello {})?,
            "renew" => read(args).map(|Nothing {}| Self::Renew {})?,
            "start" => Self::Start(read(args)?),
            "processes" => read(args).map(|Nothing {}| Self::Processes {})?,
            "process" => Self::Process(read(args)?),
            "follow" => Self::Follow(read(args)?),
            "stdin" => Self::Stdin(read(args)?),
            "signal" => Self::Signal(read(args)?),
            "resize" => Self::Resize(read(args)?),
            Self::TERMINAL => Self::Terminal(read(args)?),
            "forget" => Self::Forget(read(args)?),
            "stat" => Self::Stat(read(args)?),
            "list" => Self::List(read(args)?),
            "read" => Self::Read(read(args)?),
            "write" => Self::Write(read(args)?),
            "stage" => Self::Stage(read(args)?),
            "commit" => Self::Commit(read(args)?),
            "unpack" => Self::Unpack(read(args)?),
            "pack" => Self::Pack(read(args)?),
            "mkdir" => Self::Mkdir(read(args)?),
            "move" => Self::Move(read(args)?),
            "remove" => Self::Remove(read(args)?),
            "watch" => Self::Watch(read(args)?),
            "metrics" => read(args).map(|Nothing {}| Self::Metrics {})?,
            _ => return Err(serde_json::Error::custom("the op is unknown")),
        })
    }
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Named { op, args } = Named::deserialize(deserializer)?;
        Self::of(&op, args).map_err(D::Error::custom)
    }
}

/// Arguments of an operation that has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// An operation as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    op: String,
    args: Value,
}

/// A call as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    to: String,
    session: Unique,
    call: Unique,
    op: String,
    args: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest256>,
}

/// A call and its signature, as the two headers hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Value of [`crate::CALL`].
    pub call: String,
    /// Value of [`crate::SIGNATURE`].
    pub signature: String,
}

/// Why a call is not obeyed: it was not executed, and nothing else was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It has not the form of a call.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its key is in no line of the file of keys.
    #[error("no key of this guest has that name")]
    UnknownKey,
    /// Its signature is not by that key over these bytes.
    #[error("the signature does not hold")]
    WrongSignature,
}

impl Call {
    /// Signs the call; `None` if it is larger than a call may be.
    pub fn sign(&self, key: &EdgeKey) -> Option<Signed> {
        let operation = serde_json::to_value(&self.operation).ok()?;
        let wire = Wire {
            to: self.to.clone(),
            session: self.session,
            call: self.call,
            op: self.operation.name().to_owned(),
            args: operation.get("args").cloned().unwrap_or_else(|| json!({})),
            length: self.body.map(|it| it.length),
            sha256: self.body.map(|it| it.sha256),
        };
        let json = serde_json::to_vec(&wire).ok().filter(|it| it.len() <= LARGEST_CALL)?;
        let signature = key.signing_key().sign(&[CONTEXT, &json].concat());
        Some(Signed {
            call: URL_SAFE_NO_PAD.encode(&json),
            signature: format!("{}:{}", key.id(), URL_SAFE_NO_PAD.encode(signature.to_bytes())),
        })
    }

    /// Proves a call by the keys of a guest, and reads it. Returns it with the line of the key that signed it: a key
    /// may stand in several lines, one for each deployment that it speaks for.
    pub fn verify<'a>(
        call: &str,
        signature: &str,
        keys: impl IntoIterator<Item = &'a KeyLine>,
    ) -> Result<(Self, Vec<&'a KeyLine>), CallError> {
        use CallError::{Malformed, UnknownKey, WrongSignature};
        if call.len() > LARGEST_CALL.div_ceil(3) * 4 {
            return Err(Malformed("the call is too large"));
        }
        let json = URL_SAFE_NO_PAD.decode(call).map_err(|_| Malformed("the call is not base64url"))?;
        let (id, signature) = signature.split_once(':').ok_or(Malformed("the signature has no key id"))?;
        let signature: [u8; 64] = URL_SAFE_NO_PAD
            .decode(signature)
            .ok()
            .and_then(|it| it.try_into().ok())
            .ok_or(Malformed("the signature is not 64 bytes in base64url"))?;
        let lines: Vec<_> = keys.into_iter().filter(|line| line.id.as_str() == id).collect();
        let line = lines.first().ok_or(UnknownKey)?;
        let signed = [CONTEXT, &json].concat();
        line.key.verify_strict(&signed, &Signature::from_bytes(&signature)).map_err(|_| WrongSignature)?;
        Ok((Self::read(&json)?, lines))
    }

    /// The name in a call that nobody has proved yet: a refusal tells it back.
    pub fn name_in(call: &str) -> Option<Unique> {
        #[derive(Deserialize)]
        struct Name {
            call: Unique,
        }
        let json = URL_SAFE_NO_PAD.decode(call).ok().filter(|it| it.len() <= LARGEST_CALL)?;
        serde_json::from_slice::<Name>(&json).ok().map(|it| it.call)
    }

    /// Reads the JSON of a call.
    fn read(json: &[u8]) -> Result<Self, CallError> {
        let wire: Wire = serde_json::from_slice(json)
            .map_err(|_| CallError::Malformed("the call is not JSON with the members of a call"))?;
        let operation = Operation::of(&wire.op, wire.args).map_err(|_| {
            CallError::Malformed("the call's op is unknown, or its args are not those of the op")
        })?;
        let body = match (wire.length, wire.sha256) {
            (Some(length), Some(sha256)) => Some(Body { length, sha256 }),
            (None, None) => None,
            _ => return Err(CallError::Malformed("length and sha256 come together")),
        };
        match (&operation, body) {
            (Operation::Stage(_), None) => {}
            (Operation::Stage(_), Some(_)) => return Err(CallError::Malformed("a stage has no length")),
            (_, None) => return Err(CallError::Malformed("length and sha256 are needed")),
            (_, Some(body)) if body.length > LARGEST_BODY => {
                return Err(CallError::Malformed("the body is too large"));
            }
            (_, Some(_)) => {}
        }
        Ok(Self { to: wire.to, session: wire.session, call: wire.call, operation, body })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::process::{After, Follow, Named};

    fn call(operation: Operation) -> Call {
        let body = (!matches!(operation, Operation::Stage(_))).then(|| Body::of(b"abc"));
        Call {
            to: "pvelxc-200000-aaaaaaaaaaaaaaaaaaaaaaaa".into(),
            session: Unique([1; 16]),
            call: Unique([2; 16]),
            operation,
            body,
        }
    }

    fn operations() -> Vec<Operation> {
        let process = Unique([3; 16]);
        vec![
            Operation::Hello {},
            Operation::Start(crate::process::Start { process, keyed: Some(Digest256::of(b"x")) }),
            Operation::Follow(Follow { process, after: After::Cursor(7), wait_ms: Some(1), most: None }),
            Operation::Forget(Named { process }),
            Operation::Stage(file::Stage {
                stage: process,
                path: "/a\n\"b".into(),
                user: Some("me".into()),
                mkdirs: true,
                unpack: false,
            }),
            Operation::Read(file::Read {
                path: "/x".into(),
                user: None,
                range: Some(file::Range::From { first: 1, last: None }),
                if_match: None,
            }),
        ]
    }

    #[test]
    fn a_signed_call_is_read_as_it_was_made() {
        let (key, other) = (EdgeKey::new(&[9; 32]), EdgeKey::new(&[8; 32]));
        let lines = [other.line("work"), key.line("home"), key.line("lab")];
        for operation in operations() {
            let made = call(operation);
            let signed = made.sign(&key).unwrap();
            let (read, by) = Call::verify(&signed.call, &signed.signature, &lines).unwrap();
            assert_eq!(read, made);
            assert_eq!(Call::name_in(&signed.call), Some(made.call));
            let deployments: Vec<_> = by.iter().map(|it| it.deployment.as_str()).collect();
            assert_eq!(deployments, ["home", "lab"]);
            assert_eq!(made.operation.name(), serde_json::to_value(&made.operation).unwrap()["op"]);
        }
    }

    #[test]
    fn a_changed_call_is_refused() {
        let key = EdgeKey::new(&[9; 32]);
        let lines = [key.line("home")];
        let signed = call(Operation::Hello {}).sign(&key).unwrap();
        let other = call(Operation::Renew {}).sign(&key).unwrap();
        assert_eq!(Call::verify(&other.call, &signed.signature, &lines), Err(CallError::WrongSignature));
        assert_eq!(Call::verify(&signed.call, &signed.signature, &[]), Err(CallError::UnknownKey));
        let by_another = format!("{}:{}", key.id(), signed.signature.split_once(':').unwrap().1);
        let lines_of_another = [EdgeKey::new(&[1; 32]).line("home")];
        assert_eq!(Call::verify(&signed.call, &by_another, &lines_of_another), Err(CallError::UnknownKey));
        for at in 0..signed.call.len() {
            let mut bytes = signed.call.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Call::verify(&changed, &signed.signature, &lines).is_err(), "{at}");
            assert!(Call::verify(&signed.call[..at], &signed.signature, &lines).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_signed_but_no_call_is_refused() {
        let key = EdgeKey::new(&[9; 32]);
        let lines = [key.line("home")];
        let one = "01".repeat(16);
        let head = format!(r#""to":"x","session":"{one}","call":"{one}""#);
        let hash = "00".repeat(32);
        for json in [
            "{}".to_owned(),
            format!(r#"{{{head},"op":"hello","args":{{}}}}"#),
            format!(r#"{{{head},"op":"hello","args":{{}},"length":0}}"#),
            format!(r#"{{{head},"op":"hello","args":{{}},"length":0,"sha256":"00"}}"#),
            format!(r#"{{{head},"op":"nonsense","args":{{}},"length":0,"sha256":"{hash}"}}"#),
            format!(
                r#"{{{head},"op":"process","args":{{"process":"{one}","x":1}},"length":0,"sha256":"{hash}"}}"#
            ),
            format!(r#"{{{head},"op":"hello","args":{{}},"length":0,"sha256":"{hash}","x":1}}"#),
            format!(r#"{{{head},"op":"hello","op":"renew","args":{{}},"length":0,"sha256":"{hash}"}}"#),
            format!(r#"{{{head},"op":"hello","args":{{}},"length":9999999,"sha256":"{hash}"}}"#),
        ] {
            let signature = key.signing_key().sign(&[CONTEXT, json.as_bytes()].concat());
            let signature = format!("{}:{}", key.id(), URL_SAFE_NO_PAD.encode(signature.to_bytes()));
            let read = Call::verify(&URL_SAFE_NO_PAD.encode(&json), &signature, &lines);
            assert!(matches!(read, Err(CallError::Malformed(_))), "{json}: {read:?}");
        }
    }

    #[test]
    fn a_call_that_is_too_large_is_not_signed() {
        let path = "x".repeat(LARGEST_CALL);
        let large = call(Operation::Stat(file::At { path, user: None }));
        assert_eq!(large.sign(&EdgeKey::new(&[9; 32])), None);
    }

    proptest! {
        #[test]
        fn any_headers_are_read_without_a_panic(call in "(?s).{0,200}", signature in "(?s).{0,120}") {
            let lines = [EdgeKey::new(&[9; 32]).line("home")];
            prop_assert!(Call::verify(&call, &signature, &lines).is_err());
            Call::name_in(&call);
        }

        #[test]
        fn any_signed_bytes_are_read_without_a_panic(json in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(read) = Call::read(&json) {
                let signed = read.sign(&EdgeKey::new(&[9; 32])).unwrap();
                prop_assert_eq!(Call::read(&URL_SAFE_NO_PAD.decode(signed.call).unwrap()), Ok(read));
            }
        }
    }
}
