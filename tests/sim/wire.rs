use http::{Request, header};
use pve_edge_bed::sim::{Reply, Setup, TOKEN, Version};

use crate::talk::{built, call, cloned, fails, ok, request, sim, with};

fn text(reply: &Reply) -> String {
    format!("{} {}|{}", reply.status, reply.reason, String::from_utf8_lossy(&reply.body))
}

#[test]
fn where_the_error_text_is_depends_on_version_and_format() {
    let line = "GET /nodes/pve1/lxc/999/config";
    let said = "Configuration file 'nodes/pve1/lxc/999.conf' does not exist";
    let mut old = with(Setup { version: Version::V7_4, ..Setup::default() });
    assert_eq!(text(&call(&mut old, line)), format!(r#"500 {said}|{{"data":null}}"#));
    let mut new = sim();
    assert_eq!(text(&call(&mut new, line)), format!(r#"500 {said}|{{"data":null,"message":"{said}\n"}}"#));
    for sim in [&mut old, &mut new] {
        let reply = sim.handle(&built("extjs", TOKEN, line));
        let body = format!(r#"{{"data":null,"message":"{said}\n","status":500,"success":0}}"#);
        assert_eq!(text(&reply), format!("200 OK|{body}"));
    }
}

#[test]
fn a_bad_token_gets_nothing_but_a_status_and_late() {
    let mut sim = sim();
    let reply = sim.handle(&built("extjs", "edge@pve!edge=wrong", "GET /version"));
    assert_eq!(text(&reply), "401 Authentication failed!|");
    assert_eq!(reply.delay, time::Duration::seconds(3));
    let mut bare = request("GET /version");
    bare.headers_mut().remove(header::AUTHORIZATION);
    assert_eq!(text(&sim.handle(&bare)), "401 No ticket|");
    let space = TOKEN.replacen('=', "%3D", 1);
    let mut spaced = request("GET /version");
    let value = format!("PVEAPIToken {space}").parse().expect("a header");
    spaced.headers_mut().insert(header::AUTHORIZATION, value);
    assert_eq!(sim.handle(&spaced).status, 200);
}

#[test]
fn permission_comes_before_parameters_and_they_before_existence() {
    let mut sim = sim();
    sim.token("edge@pve!weak", "s", true);
    let line = "PUT /nodes/pve1/lxc/999/config bogus=1";
    let weak = sim.handle(&built("json", "edge@pve!weak=s", line));
    assert_eq!(weak.status, 403);
    assert_eq!(call(&mut sim, line).status, 400);
    assert_eq!(fails(&mut sim, "GET /foo"), "501 Method 'GET /foo' not implemented");
    assert_eq!(call(&mut sim, "PUT /version").status, 501);
}

#[test]
fn a_separated_token_has_what_it_and_its_user_have() {
    let mut sim = sim();
    sim.token("edge@pve!narrow", "s", true);
    sim.grant("edge@pve!narrow", "/", &["VM.Audit", "Sys.Modify"]);
    let permissions = "GET /access/permissions?path=/";
    let reply = sim.handle(&built("json", "edge@pve!narrow=s", permissions));
    assert_eq!(String::from_utf8_lossy(&reply.body), r#"{"data":{"/":{"VM.Audit":1}}}"#);
    sim.grant("edge@pve!narrow", "/vms", &["VM.Clone"]);
    let read = sim.handle(&built("json", "edge@pve!narrow=s", "GET /nodes/pve1/lxc/9000/config"));
    assert_eq!(read.status, 403, "a deeper entry replaces");
    sim.token("root@pam!all", "s", false);
    let hook =
        sim.handle(&built("json", "root@pam!all=s", "PUT /nodes/pve1/lxc/9000/config hookscript=local:x"));
    assert_eq!(hook.status, 403, "a token of root is not root");
}

#[test]
fn raw_separators_in_a_form_cut_values() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    let mut put = request("PUT /nodes/pve1/lxc/200/config");
    *put.body_mut() = b"tags=a&description=x=y".to_vec();
    assert_eq!(sim.handle(&put).status, 200);
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/lxc/200/config")["description"], "x\n");
    *put.body_mut() = b"tags=a;b".to_vec();
    assert_eq!(sim.handle(&put).status, 400, "b is a parameter of its own");
}

#[test]
fn frames_that_pveproxy_refuses() {
    let mut sim = sim();
    let refused = |mut request: Request<Vec<u8>>, body: &[u8], headers: &[(&'static str, &'static str)]| {
        *request.body_mut() = body.to_vec();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        sim.handle(&request)
    };
    let mut refused = refused;
    let put = || request("PUT /nodes/pve1/lxc/9000/config");
    let chunked = refused(put(), b"tags=a", &[("transfer-encoding", "chunked")]);
    assert_eq!(
        text(&chunked),
        "501 chunked transfer encoding not supported|chunked transfer encoding not supported"
    );
    let body = refused(request("DELETE /nodes/pve1/lxc/9000"), b"force=1", &[]);
    assert_eq!((body.status, body.reason.as_str()), (501, "Unexpected content for method 'DELETE'"));
    assert_eq!(refused(request("GET /version"), b"", &[("content-length", "0")]).status, 200);
    assert_eq!(refused(put(), b"x", &[("content-type", "text/plain")]).status, 506);
    assert_eq!(refused(put(), &vec![b'a'; (512 << 10) + 1], &[]).status, 501);
}
