//! A view's value: derived from records once per change and instance, and shared by all who watch it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// What a view came to: for whoever derives more from it, and printed for whoever sends it. Cloning
/// is cheap. Two are equal when both are: only what differs is told as a change.
#[derive(Clone)]
pub struct ViewValue {
    printed: Bytes,
    held: Arc<dyn Held>,
}

/// Anything that can be compared, whatever its type.
trait Held: Send + Sync {
    fn any(&self) -> &dyn Any;
    fn is(&self, other: &dyn Any) -> bool;
}

impl<T: Any + PartialEq + Send + Sync> Held for T {
    fn any(&self) -> &dyn Any {
        self
    }

    fn is(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>() == Some(self)
    }
}

impl ViewValue {
    /// A value and its printed form, which may be empty where nobody sends it. Where it is sent in
    /// several forms, the others are part of the value.
    #[must_use]
    pub fn new<T: Any + PartialEq + Send + Sync>(value: T, printed: impl Into<Bytes>) -> Self {
        Self {
            printed: printed.into(),
            held: Arc::new(value),
        }
    }

    /// Its printed form, shared.
    #[must_use]
    pub const fn printed(&self) -> &Bytes {
        &self.printed
    }

    /// The value, if it is of this type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        (*self.held).any().downcast_ref()
    }
}

impl PartialEq for ViewValue {
    fn eq(&self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.held, &other.held) || (*self.held).is((*other.held).any());
        same && self.printed == other.printed
    }
}

impl fmt::Debug for ViewValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ViewValue").field(&self.printed).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_by_type_value_and_print() {
        let one = ViewValue::new(vec![1_u8, 2], "[1,2]");
        assert_eq!(one.get::<Vec<u8>>(), Some(&vec![1, 2]));
        assert_eq!(one.get::<u8>(), None);
        assert_eq!(one.printed(), "[1,2]");
        assert_eq!(one, one.clone());
        assert_eq!(one, ViewValue::new(vec![1_u8, 2], "[1,2]"));
        assert_ne!(one, ViewValue::new(vec![1_u8], "[1,2]"));
        assert_ne!(one, ViewValue::new(vec![1_u8, 2], "[1, 2]"));
        assert_ne!(one, ViewValue::new(vec![1_u16, 2], "[1,2]"));
    }
}
