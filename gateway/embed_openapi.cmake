# cmake -DDOCUMENT=openapi.json -DOUTPUT=FILE -P embed_openapi.cmake: writes the document as C (openapi.h), so that the
# program needs no file beside it.
file(READ ${DOCUMENT} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
file(WRITE ${OUTPUT} "// Made from openapi.json.
#include \"gateway/openapi.h\"

const char tob_openapi_document[] = {${bytes}};
const size_t tob_openapi_document_bytes = sizeof(tob_openapi_document);
")
