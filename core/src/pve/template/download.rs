//! The archive on its storage: there, on its way, or asked for.

use sha2::{Digest, Sha256};

use super::{request::archive, target::Target};
use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        api::{PveError, node::Download, task::Upid},
        cluster::Cluster,
        guest::wait::{failure_of_task, wait},
    },
    sandbox::template::TemplateRequest,
    text::base32::base32,
};

/// Downloads that began so long ago are not waited for.
const LONGEST_SECONDS: i64 = 6 * 3600;
/// So long whoever asks is told how the last one failed, before another one begins.
const FAILED_SECONDS: i64 = 60;

/// Where an archive is.
pub(super) enum Archive {
    /// On the storage.
    There(String),
    /// A node gets it.
    Underway(String),
}

/// Gets the archive, unless it is there. A file has its name only when all of
/// it is there, and one that is on its way has a task of that name.
pub(super) async fn fetch<I: Io>(
    cluster: &Cluster<'_, I>,
    request: &TemplateRequest,
    target: &Target,
    deadline: Deadline<'_, I>,
) -> Result<Archive, Error> {
    let (node, storage) = (target.node.as_str(), target.archives.as_str());
    let file = file(cluster, request, node).await?;
    let volid = format!("{storage}:vztmpl/{file}");
    if is_there(cluster, target, &volid).await? {
        return Ok(Archive::There(volid));
    }
    let kind = if request.image.is_some() { "ociregistrypull" } else { "download" };
    let earlier = earlier(cluster, node, kind, &file).await?;
    let is_own = earlier.is_none();
    let task = match earlier {
        Some(task) => task,
        None => match start(cluster, request, target, &file).await {
            Ok(task) => task,
            // It may have been executed: whoever asks again finds the file or the task.
            Err(error) if error.may_be_executed() => return Ok(Archive::Underway(volid)),
            Err(error) if error.is_file_there() => return Ok(Archive::There(volid)),
            Err(error) => return Err(refused(error, request, target)),
        },
    };
    match wait(cluster, &task, deadline).await {
        None => return Ok(Archive::Underway(volid)),
        Some(Err(cause)) if !cause.is_file_there() => return Err(failed(&file, &cause)),
        Some(_) => {}
    }
    // An earlier one may have been for another storage of that node: its task does not tell.
    let there = is_own || is_there(cluster, target, &volid).await?;
    Ok(if there { Archive::There(volid) } else { Archive::Underway(volid) })
}

async fn is_there<I: Io>(cluster: &Cluster<'_, I>, target: &Target, volid: &str) -> Result<bool, Error> {
    let archives = cluster.send(cluster.pve.archives(&target.node, &target.archives)).await?;
    Ok(archives.iter().any(|it| it.get("volid").and_then(|it| it.as_str()) == Some(volid)))
}

/// A task that gets this file.
async fn earlier<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    kind: &str,
    file: &str,
) -> Result<Option<Upid>, Error> {
    let now = cluster.now().unix_timestamp();
    let since = now - LONGEST_SECONDS;
    let tasks = cluster.send(cluster.pve.downloads(node, kind, since)).await?;
    let mut of_file = tasks.iter().filter(|it| it.is_since(kind, file, since));
    let Some(last) = of_file.next() else { return Ok(None) };
    if last.is_running() {
        return Ok(last.upid.parse().ok());
    }
    let ended = last.ended.and_then(|it| i64::try_from(it).ok()).unwrap_or(0);
    match &last.status {
        Some(_) if !last.has_succeeded() && now - ended < FAILED_SECONDS => {
            Err(failed(file, &failure_of_task(cluster, last).await))
        }
        _ => Ok(None),
    }
}

async fn start<I: Io>(
    cluster: &Cluster<'_, I>,
    request: &TemplateRequest,
    target: &Target,
    file: &str,
) -> Result<Upid, PveError> {
    let (node, storage) = (target.node.as_str(), target.archives.as_str());
    let call = match (&request.url, &request.image) {
        (Some(url), _) => {
            let checksum = request.checksum.as_deref().zip(request.checksum_algorithm.as_deref());
            cluster.pve.download(node, storage, &Download { filename: file, url, checksum })
        }
        (_, Some(image)) => cluster.pve.pull(node, storage, file.strip_suffix(".tar").unwrap_or(file), image),
        _ => cluster.pve.download_appliance(node, storage, file),
    };
    cluster.send(call).await
}

/// The name of the file. One from elsewhere carries a hash of where it is
/// from: another one of the same name is another file.
async fn file<I: Io>(
    cluster: &Cluster<'_, I>,
    request: &TemplateRequest,
    node: &str,
) -> Result<String, Error> {
    if let Some(url) = &request.url {
        let sum = request.checksum.as_deref().unwrap_or_default();
        return Ok(named(&[url, sum], archive(url).unwrap_or_default()));
    }
    if let Some(image) = &request.image {
        let version = cluster.send(cluster.pve.version()).await?;
        if version.number() < (9, 1) {
            let text =
                format!("images need PVE 9.1, and this is {}: take an appliance or a url", version.version);
            return Err(Error::new(Code::Unsupported, text));
        }
        return Ok(format!("{}.tar", named(&[image], image.rsplit('/').next().unwrap_or_default())));
    }
    appliance(cluster, node, request.appliance.as_deref().unwrap_or_default()).await
}

fn named(from: &[&str], name: &str) -> String {
    let mut hasher = Sha256::new();
    for part in from {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let [a, b, c, d, e, f, g, h, i, j, ..] = <[u8; 32]>::from(hasher.finalize());
    let plain = |it: char| if it.is_ascii_alphanumeric() || "_.-".contains(it) { it } else { '_' };
    // The end tells PVE how to unpack it.
    let skipped = name.chars().count().saturating_sub(100);
    let name: String = name.chars().skip(skipped).map(plain).collect();
    format!("edge-{}-{name}", base32(&[a, b, c, d, e, f, g, h, i, j]))
}

/// The file of that name, or the newest one of that package.
async fn appliance<I: Io>(cluster: &Cluster<'_, I>, node: &str, name: &str) -> Result<String, Error> {
    let all = cluster.send(cluster.pve.appliances(node)).await?;
    let mut newest: Option<(Vec<u64>, &str)> = None;
    for one in &all {
        let text = |field: &str| one.get(field).and_then(|it| it.as_str());
        let Some(file) = text("template").filter(|it| is_file(it)) else { continue };
        if file == name {
            return Ok(name.to_owned());
        }
        let usual = text("architecture").is_none_or(|it| it == "amd64");
        if text("package") == Some(name) && usual {
            let version = numbers(text("version").unwrap_or_default());
            if newest.as_ref().is_none_or(|(known, _)| version > *known) {
                newest = Some((version, file));
            }
        }
    }
    newest.map(|(_, file)| file.to_owned()).ok_or_else(|| {
        let text = format!("node {node} knows no appliance {name}: see pveam available, after pveam update");
        Error::new(Code::TemplateNotFound, text)
    })
}

fn is_file(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.+-".contains(&it))
}

/// `12.7-1` is older than `12.12-1`.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect()
}

fn failed(file: &str, cause: &PveError) -> Error {
    cause.problem(Code::TaskFailed, &format!("PVE could not get {file}"))
}

/// PVE's refusal of a download: of what one by URL needs PVE does not say what is missing.
fn refused(error: PveError, request: &TemplateRequest, target: &Target) -> Error {
    if !error.is_forbidden() || error.says_privilege() || request.url.is_none() {
        return error.into();
    }
    let text = format!(
        "the token lacks Sys.AccessNetwork on /nodes/{} (on old PVE Sys.Audit and Sys.Modify on /), which a \
         download by url needs beside Datastore.AllocateTemplate on /storage/{}",
        target.node, target.archives
    );
    Error::new(Code::PveForbidden, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_where_a_file_is_from() {
        let of = |url: &str| named(&[url, ""], archive(url).unwrap());
        let one = of("https://a.test/x/debian.tar.zst?token=secret");
        assert!(
            one.starts_with("edge-") && one.ends_with("-debian.tar.zst") && !one.contains("secret"),
            "{one}"
        );
        assert_ne!(one, of("https://b.test/x/debian.tar.zst?token=secret"));
        let long = of(&format!("https://a.test/{}.tar.xz", "x".repeat(300)));
        assert!(long.len() < 130 && long.ends_with(".tar.xz"), "{long}");
    }

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(numbers("12.12-1") > numbers("12.7-1"));
        assert!(numbers("12.7-2") > numbers("12.7-1"));
    }
}
