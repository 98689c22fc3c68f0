//! Deletion of a sandbox, which Morph calls stop.

use super::{Cloud, instance::find_instance, read::etag};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    sandbox::{id::MorphId, patch::check_etag},
};

/// Deletes a sandbox, if it is the version that `if_match` names. Morph uses no id again, so a deletion that was not
/// answered is sent once more if the instance is still there.
pub async fn remove<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    if_match: Option<&str>,
) -> Result<(), Error> {
    let instance = find_instance(cloud, caller, id).await?;
    check_etag(if_match, &etag(&instance))?;
    for last in [false, true] {
        match cloud.send(cloud.morph.stop(id)).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) if last || !error.may_be_executed() => return Err(error.into()),
            Err(_) => {}
        }
        if let Err(error) = find_instance(cloud, caller, id).await {
            return if error.code() == Code::NotFound { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}
