/* bcryptprimitives.dll for a Wine that has none (8 and before): Go programs take their random bytes from it. */
#include <windows.h>

/* Fills with random bytes; exported by advapi32.dll under this name. */
BOOLEAN WINAPI SystemFunction036(void *buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *data, SIZE_T length)
{
	while (length > 0) {
		ULONG part = length > 0x10000000 ? 0x10000000 : (ULONG)length;
		if (!SystemFunction036(data, part))
			return FALSE;
		data += part;
		length -= part;
	}
	return TRUE;
}
