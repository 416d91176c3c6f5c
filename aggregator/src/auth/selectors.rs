//! The selectors of a list or watch as a SubjectAccessReview states them. They only narrow what is asked for.

use k8s_openapi::{
    api::authorization::v1::{FieldSelectorAttributes, LabelSelectorAttributes},
    apimachinery::pkg::apis::meta::v1::{FieldSelectorRequirement, LabelSelectorRequirement},
};

/// Requirements that all objects asked for meet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selectors {
    /// On fields.
    pub fields: Vec<Requirement>,
    /// On labels.
    pub labels: Vec<Requirement>,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Field or label.
    pub key: String,
    /// How it relates to the values.
    pub operator: Operator,
    /// The values; none for [`Operator::Exists`] and [`Operator::DoesNotExist`].
    pub values: Vec<String>,
}

/// The operators that a review knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values.
    NotIn,
    /// There at all.
    Exists,
    /// Not there.
    DoesNotExist,
}

impl Operator {
    fn name(self) -> String {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
        .to_owned()
    }
}

impl Selectors {
    /// Whether nothing is narrowed.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.labels.is_empty()
    }

    pub(super) fn field_attributes(&self) -> Option<FieldSelectorAttributes> {
        let each = |one: &Requirement| FieldSelectorRequirement {
            key: one.key.clone(),
            operator: one.operator.name(),
            values: Some(one.values.clone()).filter(|values| !values.is_empty()),
        };
        let requirements = Some(self.fields.iter().map(each).collect());
        (!self.fields.is_empty()).then_some(FieldSelectorAttributes { raw_selector: None, requirements })
    }

    pub(super) fn label_attributes(&self) -> Option<LabelSelectorAttributes> {
        let each = |one: &Requirement| LabelSelectorRequirement {
            key: one.key.clone(),
            operator: one.operator.name(),
            values: Some(one.values.clone()).filter(|values| !values.is_empty()),
        };
        let requirements = Some(self.labels.iter().map(each).collect());
        (!self.labels.is_empty()).then_some(LabelSelectorAttributes { raw_selector: None, requirements })
    }
}
