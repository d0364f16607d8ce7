/* Call one kernel on tensors read from stdin and write the last of them to stdout: a processor under emulation has
 * neither Python nor TVM's runtime.
 *
 * stdin: the count of tensors; for each its type code, bits, axes and extents, then its bytes. All numbers are int64.
 */
#include <stdio.h>
#include <stdlib.h>
#include <tvm/ffi/c_api.h>

int __tvm_ffi_kernel(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result);

static void *allocate(int type, int id, uint64_t size, int code, int bits) {
  return aligned_alloc(64, (size + 63) / 64 * 64);
}

static int release(int type, int id, void *memory) {
  free(memory);
  return 0;
}

/* What a kernel takes from TVM's runtime; it has weak pointers of these names, which the loader of modules would set. */
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = release;

static void take(void *memory, size_t size) {
  if (fread(memory, 1, size, stdin) != size) exit(2);
}

static int64_t number(void) {
  int64_t found;
  take(&found, sizeof found);
  return found;
}

int main(void) {
  enum { MOST = 8 };
  static DLTensor tensors[MOST];
  static TVMFFIAny arguments[MOST];
  TVMFFIAny result = {0};
  int64_t count = number();
  size_t size = 0;
  if (count > MOST) return 3;
  for (int64_t each = 0; each < count; ++each) {
    DLTensor *tensor = &tensors[each];
    tensor->device.device_type = kDLCPU;
    tensor->dtype.code = (uint8_t)number();
    tensor->dtype.bits = (uint8_t)number();
    tensor->dtype.lanes = 1;
    tensor->ndim = (int32_t)number();
    tensor->shape = calloc((size_t)tensor->ndim, sizeof(int64_t));
    size = tensor->dtype.bits / 8;
    for (int32_t axis = 0; axis < tensor->ndim; ++axis) size *= (size_t)(tensor->shape[axis] = number());
    tensor->data = allocate(0, 0, size, 0, 0);
    take(tensor->data, size);
    arguments[each].type_index = kTVMFFIDLTensorPtr;
    arguments[each].v_ptr = tensor;
  }
  if (__tvm_ffi_kernel(NULL, arguments, (int32_t)count, &result)) return 4;
  return fwrite(tensors[count - 1].data, 1, size, stdout) != size;
}
