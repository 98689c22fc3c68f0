//! The function, and what its infrastructure file says of it.

use pve_edge_lambda::function::{Function, streams};
use serde_json::json;

#[tokio::test]
async fn only_a_schedule_is_taken_without_a_request() {
    let function = Function::new(Vec::new()).expect("a function");
    for (event, taken) in [
        (json!({"source": "aws.scheduler"}), true),
        (json!({"source": "aws.events", "detail-type": "Scheduled Event"}), true),
        (json!({"source": "aws.s3"}), false),
        (json!({"path": "/events"}), false),
        (json!([]), false),
    ] {
        let request = lambda_http::request::from_str(&event.to_string()).expect("an event");
        assert_eq!(function.invoke(request).await.is_ok(), taken, "{event}");
    }
}

#[test]
fn whether_answers_stream_is_read_as_core_reads_it() {
    let is = |value: &str| streams(&vec![("EDGE_LAMBDA_STREAM".to_owned(), value.to_owned())]);
    assert!(["1", "true", "True", "YES", " on\n"].into_iter().all(is));
    assert!(!["0", "false", "", "No"].into_iter().any(is));
}

#[tokio::test]
async fn the_infrastructure_file_names_settings_and_sends_a_schedule() {
    let lines: Vec<_> = include_str!("../template.yaml").lines().map(str::trim).collect();
    let names = lines.iter().filter_map(|line| line.split_once(": ")).map(|(name, _)| name);
    let settings =
        names.filter(|it| it.contains('_') && it.bytes().all(|it| it == b'_' || it.is_ascii_uppercase()));
    let mut count = 0;
    for name in settings {
        assert!(pve_edge_core::settings::SETTINGS.iter().any(|it| it.name == name), "{name}");
        count += 1;
    }
    assert!(count >= 7, "{count}");
    let input = lines.iter().find_map(|line| line.strip_prefix("Input: '")?.strip_suffix('\''));
    let request = lambda_http::request::from_str(input.expect("an input")).expect("an event");
    assert!(Function::new(Vec::new()).expect("a function").invoke(request).await.is_ok());
}
