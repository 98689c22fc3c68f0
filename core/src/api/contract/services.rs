//! What operations on services take and answer.

use super::{
    operations::{Answer, Body},
    schemas::Schemas,
};
use crate::{
    api::action::Action,
    sandbox::{
        Service,
        service::{LinkBody, ServiceBody, ServiceLink},
    },
};

/// The body that a request has, or may have.
pub(super) fn body(action: Action, schemas: &mut Schemas) -> Option<Body> {
    match action {
        Action::PutService => Some(Body::json(schemas.read::<ServiceBody>(), true)),
        Action::LinkService => Some(Body::json(schemas.read::<LinkBody>(), false)),
        _ => None,
    }
}

/// The answers that are no problems.
pub(super) fn answers(action: Action, of: &mut Schemas) -> Vec<Answer> {
    vec![match action {
        Action::PutService => Answer::new(200, "As it is visited from now on").json::<Service>(of),
        Action::LinkService => Answer::new(200, "It lets in whoever opens it").json::<ServiceLink>(of),
        Action::DeleteService => Answer::new(204, "It is private again"),
        _ => Answer::new(200, "As PVE knows it now").json::<Service>(of),
    }]
}
