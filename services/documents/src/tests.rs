//! On a real server: what every adapter relies on.
use futures::TryStreamExt as _;
use mongodb::bson::{Document, doc};

use crate::{Change, Documents, Error, Find, Index, identity, testing::TestDatabase};

fn fact(id: &str, n: i32) -> Document {
    doc! { "_id": id, "n": n }
}

fn ids(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|document| document.get_str("_id").unwrap()).collect()
}

#[test]
fn parts_of_an_identity_are_joined_by_a_character_that_no_part_has() {
    assert_eq!(identity(["ada", "2026-01-15"]), "ada\u{1F}2026-01-15");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_bulk_of_inserts_the_known_ones_are_told_and_stay_as_they_are() {
    let database = TestDatabase::create().await;
    let facts = database.documents.collection::<Document>("facts");
    assert_eq!(facts.insert_new(&[]).await.unwrap(), [0; 0]);
    assert_eq!(facts.insert_new(&[fact("a", 1), fact("c", 1)]).await.unwrap(), [0; 0]);
    assert_eq!(facts.insert_new(&[fact("a", 2), fact("b", 2), fact("c", 2), fact("d", 2)]).await.unwrap(), [0, 2]);
    assert_eq!(facts.get("a").await.unwrap(), Some(fact("a", 1)));
    assert_eq!(facts.get("x").await.unwrap(), None);
    assert!(!facts.insert_one_new(fact("d", 3)).await.unwrap());
    assert_eq!(facts.count(doc! {}).await.unwrap(), 4);

    let many: Vec<Document> = (0..900).map(|n| fact(&format!("{n:03}"), n)).collect();
    assert_eq!(facts.insert_new(&many[300..302]).await.unwrap(), [0; 0]);
    assert_eq!(facts.insert_new(&many).await.unwrap(), [300, 301], "of several commands");
    assert_eq!(facts.count(doc! {}).await.unwrap(), 904);
    database.wipe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_insert_the_same_at_once_one_wins() {
    let database = TestDatabase::create().await;
    let claims = (0..16).map(|n| {
        let facts = database.documents.collection::<Document>("facts");
        tokio::spawn(async move { facts.insert_one_new(fact("only", n)).await.unwrap() })
    });
    let won = futures::future::join_all(claims).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    assert_eq!(won, 1);
    database.wipe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_names_the_commands_that_missed_some_and_makes_nothing() {
    let database = TestDatabase::create().await;
    let facts = database.documents.collection::<Document>("facts");
    facts.insert_new(&[fact("a", 1), fact("b", 1)]).await.unwrap();
    let replace = |id: &str, read: i32, n: i32| Change::set(doc! { "_id": id, "n": read }, &fact(id, n)).unwrap();
    let missed = facts.update(&[replace("a", 1, 2), replace("b", 9, 2), replace("c", 1, 2)]).await.unwrap();
    assert_eq!(missed, [0, 1, 2], "of one command");
    let by_id = Find { sort: doc! { "_id": 1 }, ..Find::default() };
    assert_eq!(facts.find(by_id).await.unwrap(), [fact("a", 2), fact("b", 1)]);
    assert_eq!(facts.update(&[]).await.unwrap(), [0; 0]);
    assert_eq!(facts.delete(doc! { "n": 2 }).await.unwrap(), 1);

    let many: Vec<Document> = (0..100).map(|n| fact(&format!("{n:02}"), 1)).collect();
    assert_eq!(facts.insert_new(&many).await.unwrap(), [0; 0]);
    let changes = |read_of: &dyn Fn(usize) -> i32| -> Vec<Change> {
        (0..100).map(|n| replace(&format!("{n:02}"), read_of(n), 2)).collect()
    };
    let missed = facts.update(&changes(&|n| if n == 40 { 9 } else { 1 })).await.unwrap();
    assert!(missed.len() < 50 && missed.contains(&40) && missed.is_sorted(), "{missed:?}");
    assert_eq!(facts.count(doc! { "n": 2 }).await.unwrap(), 99);
    assert_eq!(facts.get("40").await.unwrap(), Some(fact("40", 1)));
    let ids = ["98", "x", "40"].map(str::to_owned);
    assert_eq!(facts.get_each(ids).await.unwrap(), [Some(fact("98", 2)), None, Some(fact("40", 1))]);
    database.wipe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_found_in_order_over_indexes_that_may_be_made_twice() {
    let database = TestDatabase::create().await;
    for _ in 0..2 {
        let indexes = [doc! { "n": -1, "_id": 1 }, doc! { "n": 1 }, doc! { "m": 1 }].map(Index);
        database.documents.ensure_indexes("facts", indexes).await.unwrap();
    }
    let facts = database.documents.collection::<Document>("facts");
    facts.insert_new(&[fact("a", 1), fact("b", 3), fact("c", 3), fact("d", 2)]).await.unwrap();
    let find = |filter: Document| Find { filter, sort: doc! { "n": -1, "_id": 1 }, limit: Some(3), ..Find::default() };
    assert_eq!(ids(&facts.find(find(doc! {})).await.unwrap()), ["b", "c", "d"]);
    let some = doc! { "_id": { "$in": ["a", "d", "x"] }, "n": { "$lt": 3 } };
    assert_eq!(ids(&facts.find(find(some)).await.unwrap()), ["d", "a"]);

    let many: Vec<Document> = (0..1_000).rev().map(|n| fact(&format!("{n:04}"), n)).collect();
    facts.insert_new(&many).await.unwrap();
    let walked: Vec<Document> = facts.walk().try_collect().await.unwrap();
    let numbers: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
    assert_eq!(ids(&walked)[..1_000], numbers, "the walk is by _id");
    assert_eq!(ids(&walked)[1_000..], ["a", "b", "c", "d"]);
    database.wipe().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_by_its_address_and_without_the_password() {
    let error = Documents::open("mongodb://ada:hunter2@127.0.0.1:1/x").await.err().unwrap();
    assert!(error.is_unreachable() && error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    assert!(matches!(Documents::open("postgres://hunter2").await.err().unwrap(), crate::OpenError::Uri));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_document_holds_is_in_no_error() {
    let database = TestDatabase::create().await;
    let facts = database.documents.collection::<Document>("facts");
    facts.insert_new(&[doc! { "_id": "a", "n": "ada@example.com" }]).await.unwrap();
    let change = Change::new(doc! { "_id": "a" }, &doc! { "$inc": { "n": 1 } }).unwrap();
    let refused = facts.update(&[change]).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused:?}");
    assert!(!format!("{refused} {refused:?}").contains("ada@"), "{refused:?}");

    #[derive(serde::Deserialize)]
    struct Numbered {
        #[serde(rename = "n")]
        _n: i32,
    }
    let numbered = database.documents.collection::<Numbered>("facts");
    let unreadable = numbered.get("a").await.err().unwrap();
    assert!(!format!("{unreadable} {unreadable:?}").contains("ada@"), "{unreadable:?}");
    database.wipe().await;
}
