//! Deleting a sandbox: what Morph calls stop.

use super::{Cloud, instance::find, read::etag};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    sandbox::{id::MorphId, patch::unchanged},
};

/// Deletes a sandbox, if it is what `if_match` names. Ids are not used again, so one that was not answered is
/// looked at, and sent again where it is still there.
pub async fn remove<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    if_match: Option<&str>,
) -> Result<(), Error> {
    let instance = find(cloud, caller, id).await?;
    unchanged(if_match, &etag(&instance))?;
    for last in [false, true] {
        match cloud.send(cloud.morph.stop(id)).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) if last || !error.may_be_executed() => return Err(error.into()),
            Err(_) => {}
        }
        if let Err(error) = find(cloud, caller, id).await {
            return if error.code() == Code::NotFound { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}
